import type { ShownBlock, VmcsDiffResult } from "../jobs/vmcs.ts";
import { vmcbDiffJson, vmcbDiffText } from "./vmcb-diff.ts";
import { vmcbShowJson, vmcbShowText } from "./vmcb-show.ts";
import { vmcsDiffJson, vmcsDiffText } from "./vmcs-diff.ts";
import { vmcsShowJson, vmcsShowText } from "./vmcs-show.ts";

interface BlockFlags {
  readonly bytes: boolean;
  readonly all: boolean;
}

/** One control block for people, whichever processor it is for. */
export const blockText = (shown: ShownBlock, { bytes, all }: BlockFlags): string =>
  shown.arch === "vmx" ? vmcsShowText(shown, { bytes, all }) : vmcbShowText(vmcbOf(shown), { bytes, all });

/** Kind of the JSON that `blockJson` gives. */
export const blockKind = ({ arch }: ShownBlock): string => (arch === "vmx" ? "vmcs-show" : "vmcb-show");

export const blockJson = (shown: ShownBlock) =>
  shown.arch === "vmx" ? vmcsShowJson(shown) : vmcbShowJson(vmcbOf(shown));

/** What two control blocks differ in, for people and as JSON. */
export function diffReport(result: VmcsDiffResult, all: boolean) {
  if (result.arch === "vmx") {
    const [a, b] = [result.first, result.second].map(({ name, shown }) => ({ name, decoded: shown.decoded }));
    return { kind: "vmcs-diff", result: vmcsDiffJson(a!, b!), text: vmcsDiffText(a!, b!, all) };
  }
  const [a, b] = [result.first, result.second].map(({ name, shown }) => ({ name, show: vmcbOf(shown) }));
  return { kind: "vmcb-diff", result: vmcbDiffJson(a!, b!), text: vmcbDiffText(a!, b!) };
}

function vmcbOf({ block }: Extract<ShownBlock, { arch: "svm" }>) {
  const { address, vmcb, candidate, related } = block;
  const { kind, reasons } = related;
  return { address, vmcb, bytes: candidate.bytes, kind, reasons, score: candidate.score };
}
