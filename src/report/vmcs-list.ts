import { hex, hex64, hexAddress, plural, printable } from "../core/text.ts";
import type { ClassifiedBlock } from "../guest/host-guest.ts";
import type { Block } from "../jobs/host.ts";
import type { OtherVmcs, VmcsListResult } from "../jobs/vmcs.ts";
import { exitCodeName } from "../svm/exit-codes.ts";
import { fieldValue as vmcbValue } from "../svm/vmcb.ts";
import { describeExitReason } from "../vmx/exit-reasons.ts";
import { type Check, fieldValue, type Score } from "../vmx/score.ts";
import { alignedColumns } from "./columns.ts";
import { hostFactsJson, hostName, virtualizationOf } from "./host.ts";

/** One line of the list, whichever processor it is for. */
interface Row {
  readonly address: number;
  readonly arch: Block["arch"];
  /** "1:0", vCPU 0 of guest 1. */
  readonly place: string | undefined;
  readonly role: string;
  readonly layout: string;
  readonly reason: string | undefined;
  /** Share of passed checks, 0 to 1. */
  readonly score: number;
  readonly checks: readonly Pick<Check, "name" | "passed" | "detail">[];
  readonly rip: bigint | undefined;
  readonly cr3: bigint | undefined;
  /** EPTP or N_CR3. */
  readonly root: bigint | undefined;
  readonly exit: string | undefined;
}

/** Every control block as a line, then what looked like one. */
export function vmcsListText(result: VmcsListResult, reasons: boolean): string {
  const { input, host } = result;
  const rows = rowsOf(result);
  const parts = [
    `vmcore of ${hostName(host)}`,
    virtualizationOf(host),
    plural(rows.length, "control block"),
    `by ${printable(host.choice.source)}`,
  ];
  const head = ["address", "vcpu", "what", "layout", "score", "guest RIP", "guest CR3", "EPTP/N_CR3", "exit"];
  const lines = alignedColumns([head, ...rows.map(cellsOf)]).map((line) => `  ${line}`);
  const detailed = lines.flatMap((line, i) => [
    line,
    ...(i === 0 || !reasons ? [] : reasonLines(rows[i - 1]!)),
  ]);
  return `${[`${printable(input.path)}: ${parts.join(", ")}`, ...(rows.length === 0 ? [] : detailed), ...asideLines(result)].join("\n")}\n`;
}

const cellsOf = (row: Row): string[] => [
  hexAddress(row.address),
  row.place ?? "-",
  row.role,
  printable(row.layout),
  `${Math.round(row.score * 100)} %`,
  row.rip === undefined ? "-" : hex64(row.rip).slice(2),
  row.cr3 === undefined ? "-" : hex64(row.cr3).slice(2),
  row.root === undefined ? "-" : hex(row.root),
  [row.exit ?? "-", ...(row.reason === undefined ? [] : [`(${row.reason})`])].join(" "),
];

const reasonLines = ({ checks }: Row): string[] =>
  checks.map(({ name, passed, detail }) => {
    const mark = passed === undefined ? "?" : passed ? "+" : "-";
    return `      ${mark} ${name}: ${detail}`;
  });

function asideLines({ host }: VmcsListResult): string[] {
  const { vmx, svm } = host;
  const lines: string[] = [];
  if (vmx.vmxonRegions.length > 0) {
    const places = vmx.vmxonRegions.slice(0, 8).map(hexAddress).join(" ");
    const more = vmx.vmxonRegions.length > 8 ? " …" : "";
    lines.push(`  ${plural(vmx.vmxonRegions.length, "VMXON region")}, one a processor: ${places}${more}`);
  }
  if (vmx.rejected.pages > 0) {
    const best = Math.round(vmx.rejected.best * 100);
    lines.push(
      `  ${plural(vmx.rejected.pages, "page")} with a VMCS revision by chance, at most ${best} % of the checks passed`,
    );
  }
  if (svm.rejected > 0) lines.push(`  ${plural(svm.rejected, "page")} that looked like a VMCB at first`);
  if (vmx.overflowed || svm.overflowed)
    lines.push("  there were more than are kept: this is no healthy host's memory");
  return lines;
}

const rowsOf = ({ host, others }: VmcsListResult): Row[] =>
  [...host.blocks.map(blockRow), ...others.map(otherRow)].sort((a, b) => a.address - b.address);

function blockRow(classified: ClassifiedBlock<Block>): Row {
  const { block, guest, vcpu, role, reason } = classified;
  const place = guest === undefined ? undefined : `${guest}:${vcpu ?? "-"}`;
  if (block.arch === "vmx")
    return {
      ...vmxRow(block.candidate.region, block.candidate.score),
      ...{ address: block.address, place, role, reason },
    };
  const { vmcb, candidate } = block;
  const code = vmcbValue(vmcb, "exit_code");
  const { passed, total, checks } = candidate.score;
  return {
    address: block.address,
    arch: "svm",
    place,
    role: role === "vcpu" && candidate.kind !== "guest" ? candidate.kind : role,
    layout: "VMCB",
    reason: reason ?? undefined,
    score: passed / total,
    checks: checks.map(({ check, passed, detail }) => ({ name: check, passed, detail })),
    rip: vmcbValue(vmcb, "rip"),
    cr3: vmcbValue(vmcb, "cr3"),
    root: vmcbValue(vmcb, "nested_cr3"),
    exit: exitCodeName(code) ?? hex(code),
  };
}

function vmxRow(
  region: OtherVmcs["candidate"]["region"],
  score: Score,
): Omit<Row, "address" | "place" | "role" | "reason"> {
  const reason = fieldValue(region, "VM_EXIT_REASON");
  return {
    arch: "vmx",
    layout: region.layout.name,
    score: score.value,
    checks: score.checks,
    rip: fieldValue(region, "GUEST_RIP"),
    cr3: fieldValue(region, "GUEST_CR3"),
    root: fieldValue(region, "EPT_POINTER"),
    exit: reason === undefined ? undefined : describeExitReason(reason).text,
  };
}

function otherRow({ candidate, role, guest, guestAddress }: OtherVmcs): Row {
  const where =
    guestAddress === undefined
      ? "in no guest's mapped memory: KVM's own copy, or a page that its tables no longer map"
      : `at ${hex(guestAddress)} of guest ${guest}`;
  return {
    ...vmxRow(candidate.region, candidate.score),
    address: candidate.address,
    place: guest === undefined ? undefined : `${guest}:-`,
    role: role === "shadow" ? "shadow" : "vmcs12",
    reason: role === "shadow" ? "what VMREAD in the guest reads" : where,
  };
}

/** `result` of guestcore/vmcs-list/1. */
export const vmcsListJson = (result: VmcsListResult) => {
  const { host } = result;
  return {
    host: hostFactsJson(host),
    blocks: rowsOf(result).map(({ place, ...row }) => ({ ...row, vcpu: place ?? null })),
    vmxonRegions: host.vmx.vmxonRegions,
    rejected: { vmcs: host.vmx.rejected, vmcb: host.svm.rejected },
    overflowed: host.vmx.overflowed || host.svm.overflowed,
  };
};
