import { naming, UnavailableError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { identitiesOf } from "../io/file.ts";
import { refuseToOverwrite } from "../io/output.ts";
import type { LinuxImage } from "../kernel/linux.ts";
import type { LinuxKernel } from "../kernel/open-kernel.ts";
import { knownVmcs } from "../kvm/known-vmcs.ts";
import { usesVmx } from "../kvm/vcpus.ts";
import { kvmVms } from "../kvm/vms.ts";
import type { KnownRegion } from "../vmx/infer/claims.ts";
import { type InferredLayout, inferLayout } from "../vmx/infer/infer.ts";
import { infoOfInferred } from "../vmx/infer/info.ts";
import { type VmcsInfo, type WritableForm, type WrittenVmcsInfo, writeVmcsInfo } from "../vmx/vmcsinfo.ts";
import { openHostKernel } from "./host-kernel.ts";
import { type DumpNaming, type Input, openInput } from "./input.ts";
import type { KernelFileNames } from "./kernel-files.ts";
import type { OpenedVmcsInfo } from "./vmcsinfo.ts";
import { guessesWarning, leftOutWarning, openOutput, writing } from "./vmcsinfo-write.ts";

export interface InferOptions extends DumpNaming, KernelFileNames {
  /** Path, or "-" for standard output; undefined: nothing is written. */
  readonly output?: string | undefined;
  readonly to: WritableForm | "json";
  /** Whether what is written leaves out fields that are only likely. */
  readonly onlyCertain: boolean;
  readonly force: boolean;
}

export interface InferResult {
  readonly input: Input["facts"];
  readonly linux: LinuxImage | undefined;
  readonly inferred: InferredLayout;
  /** Those whose VMCSs were looked at. */
  readonly vms: number;
  readonly vcpus: number;
  /** The fields that have a place. */
  readonly info: VmcsInfo;
  readonly written: WrittenVmcsInfo | undefined;
  readonly warnings: readonly Warning[];
}

/**
 * Infers the layout of a host's VMCSs from what its KVM knows to be in them, and writes it as VMCSINFO.
 * @throws UnavailableError when the host's kernel, or its VMCSs, do not tell; UsageError, IoError for the output
 */
export function inferHostLayout(
  path: string,
  options: InferOptions,
  context: JobContext,
  json: (opened: OpenedVmcsInfo) => string,
): Promise<InferResult> {
  const { output, force } = options;
  if (output !== undefined && output !== "-") refuseToOverwrite(output, force, identitiesOf([path]));
  return naming(path, async () => {
    const input = await openInput(path, context, options);
    const warnings: Warning[] = [];
    const warn = (found: readonly Warning[]) => {
      for (const warning of found) {
        warnings.push(warning);
        context.warn(warning);
      }
    };
    try {
      warn(input.warnings);
      const { kernel, reason, linux, kdump } = await openHostKernel(input, options, warn, context);
      if (kernel === undefined) throw silentKernel(reason ?? "");
      const { vms, regions, vcpus } = await regionsOf(kernel, context);
      const inferred = inferLayout(regions, kdump);
      if (inferred === undefined) throw nothingFits(regions.length);
      warn(regionWarnings(inferred, vcpus, kdump));
      const info = infoOfInferred(inferred, options.onlyCertain);
      const written =
        output === undefined ? undefined : await write(input, info, output, options, warn, json, context);
      return { input: input.facts, linux, inferred, vms, vcpus, info, written, warnings };
    } finally {
      input.close();
    }
  });
}

const silentKernel = (reason: string): UnavailableError =>
  new UnavailableError(`the host's kernel does not tell what is in its VMCSs: ${reason}`, {
    hint: "a dump with all of the kernel's own data is needed; makedumpfile keeps it at every dump level",
  });

const nothingFits = (count: number): UnavailableError =>
  new UnavailableError(`${plural(count, "VMCS", "VMCSs")} hold nothing of what KVM wrote to them`, {
    hint: "a dump that the crashed kernel left has them whole: kdump clears every VMCS first",
  });

interface Regions {
  readonly regions: readonly KnownRegion[];
  readonly vms: number;
  readonly vcpus: number;
}

/** @throws UnavailableError when there is none */
async function regionsOf(kernel: LinuxKernel, { checkpoint }: JobContext): Promise<Regions> {
  const { vms, problem } = await kvmVms(kernel, checkpoint);
  const vcpus = vms.flatMap((vm) => vm.vcpus);
  if (vcpus.length === 0) {
    throw new UnavailableError(
      problem === undefined ? "the host's KVM has no vCPU" : `no vCPU is known: ${problem}`,
      { hint: "a layout is inferred from the VMCSs of guests that ran when the host was dumped" },
    );
  }
  const regions: KnownRegion[] = [];
  for (const vcpu of vcpus) {
    const region = knownVmcs(kernel, vcpu);
    if (region !== undefined) regions.push(region);
    await checkpoint();
  }
  if (regions.length > 0) return { regions, vms: vms.length, vcpus: vcpus.length };
  throw noVmcs(kernel);
}

/** Why no VMCS of a host that has vCPUs can be looked at. */
export function noVmcs(
  kernel: Pick<LinuxKernel, "reader" | "types" | "symbols" | "problems">,
): UnavailableError {
  if (usesVmx(kernel)) {
    return new UnavailableError("no VMCS of the host's vCPUs is in this dump", {
      hint: "take a dump of all memory",
    });
  }
  const { types, symbols, problems } = kernel;
  const isLoaded = (name: string) => symbols.modules.modules.some((module) => module.name === name);
  // An AMD host's kernel may lack the types of kvm_amd, and an Intel host's those of kvm_intel.
  const isAmd =
    isLoaded("kvm_amd") || (types.member("vcpu_svm.vcpu") !== undefined && !isLoaded("kvm_intel"));
  if (isAmd) {
    return new UnavailableError("the host's vCPUs are not Intel's", {
      hint: "a VMCB has the same layout on every processor",
    });
  }
  const told = problems.length === 0 ? "" : `: ${problems.join("; ")}`;
  return new UnavailableError("the types of kvm_intel are not known", {
    hint: `a dump is needed that has the BTF of the kernel's modules (Linux 5.11+)${told}`,
  });
}

function regionWarnings({ leftOut, used }: InferredLayout, vcpus: number, kdump: boolean): Warning[] {
  const warnings: Warning[] = [];
  if (leftOut > 0) {
    const message = `${plural(leftOut, "VMCS", "VMCSs")} of ${vcpus} are not as KVM wrote them: the layout is inferred from ${used}`;
    warnings.push({ code: "VMI010", message });
  }
  if (!kdump) {
    const message =
      "the dump was not made by the crashed kernel: processors may have kept parts of VMCSs, so nothing of the layout is certain";
    warnings.push({ code: "VMI011", message });
  }
  return warnings;
}

async function write(
  input: Input,
  info: VmcsInfo,
  output: string,
  { to, force }: InferOptions,
  warn: (warnings: readonly Warning[]) => void,
  json: (opened: OpenedVmcsInfo) => string,
  context: JobContext,
): Promise<WrittenVmcsInfo> {
  const { facts } = input;
  const opened: OpenedVmcsInfo = {
    input: facts,
    container: "layout",
    noteOffset: undefined,
    info,
    warnings: [],
  };
  const written = to === "json" ? { bytes: Buffer.from(json(opened)), leftOut: [] } : writeVmcsInfo(info, to);
  warn([...leftOutWarning(written, to), ...guessesWarning(info, written, to, {})]);
  const product = openOutput(output, force, facts.identities, context);
  await writing(product, (file) => {
    file.write(written.bytes, 0, written.bytes.length, 0);
    file.finish(written.bytes.length);
  });
  return written;
}
