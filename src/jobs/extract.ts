import { naming, UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import type { Warning } from "../core/warnings.ts";
import { elfKind, isPhysical } from "../dump/elf-kind.ts";
import type { DumpFiles } from "../dump/format.ts";
import { identify } from "../dump/identify.ts";
import { isMachineDump } from "../dump/open.ts";
import { ET_CORE, PT_NOTE } from "../elf/constants.ts";
import { isElf, readElf } from "../elf/header.ts";
import { readNotes } from "../elf/notes.ts";
import type { Guest } from "../guest/guest.ts";
import { identitiesOf } from "../io/file.ts";
import { refuseToOverwrite } from "../io/output.ts";
import { type HostGuestOptions, type HostOrigin, withHostGuest } from "./extract-host.ts";
import { type ProcessGuestOptions, type ProcessOrigin, withProcessGuest } from "./extract-process.ts";
import { type Input, openInput } from "./input.ts";
import { kdumpStyleOf } from "./vmcore-style.ts";
import { type GuestInputs, type WriteGuestOptions, type WrittenGuest, writeGuest } from "./write-guest.ts";

export interface ExtractOptions extends WriteGuestOptions, ProcessGuestOptions, HostGuestOptions {
  readonly input: string;
}

export interface ExtractResult extends WrittenGuest {
  readonly input: Input["facts"];
  readonly origin: ProcessOrigin | HostOrigin;
  readonly warnings: readonly Warning[];
}

/**
 * Writes the guest of a qemu-process core, or one of a host's, as a vmcore of its own.
 * @throws UnsupportedError, CorruptError, UnavailableError for the input; UsageError, IoError for the output
 */
export function extract(options: ExtractOptions, context: JobContext): Promise<ExtractResult> {
  return naming(options.input, async () => {
    checkOutput(options);
    const input = await openInput(options.input, context, options.host);
    try {
      return await extractFrom(input, options, context);
    } finally {
      input.close();
    }
  });
}

/** Before the input is unpacked and searched: the answer would be the same afterwards. */
function checkOutput(options: ExtractOptions): void {
  const { input, output, ram, host, dryRun, force } = options;
  kdumpStyleOf(options, dryRun ? undefined : output);
  if (dryRun || output === undefined || output === "-") return;
  const { vmcsinfo } = host ?? {};
  const files = [
    input,
    ...(host?.parts ?? []),
    ...ram.values(),
    ...(vmcsinfo === undefined ? [] : [vmcsinfo]),
  ];
  refuseToOverwrite(output, force, identitiesOf(files));
}

async function extractFrom(
  input: Input,
  options: ExtractOptions,
  context: JobContext,
): Promise<ExtractResult> {
  const warnings: Warning[] = [];
  const warn = (found: readonly Warning[]) => {
    for (const warning of found) {
      warnings.push(warning);
      context.warn(warning);
    }
  };
  const use = async (guest: Guest, origin: ExtractResult["origin"], inputs: GuestInputs) => ({
    input: input.facts,
    origin,
    ...(await writeGuest(guest, options, inputs, warn, context)),
    warnings,
  });
  warn(input.warnings);
  return isVmcore(input.source, input.files)
    ? await withHostGuest(input, options, warn, context, use)
    : await withProcessGuest(input, options, warn, context, use);
}

/**
 * Whether a file is the dump of a machine, and not the core of a process.
 * @throws UnsupportedError when it is neither
 */
export function isVmcore(source: ByteSource, files: DumpFiles): boolean {
  if (isMachineDump(source, files)) return true;
  if (!isElf(source)) {
    const { phrase, advice } = identify(source);
    throw new UnsupportedError(`not the core of a process: ${phrase}`, { hint: advice });
  }
  // All that tells the kind: a process core has no such segments.
  const elf = readElf(source, (program) => program.type === PT_NOTE || isPhysical(program));
  return elf.header.type === ET_CORE && elfKind(elf, readNotes(source, elf).notes) === "vmcore";
}
