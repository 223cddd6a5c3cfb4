import type { ShownBlock } from "../jobs/vmcs.ts";
import { vmcbShowJson, vmcbShowText } from "./vmcb-show.ts";
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

function vmcbOf({ block }: Extract<ShownBlock, { arch: "svm" }>) {
  const { address, vmcb, candidate, related } = block;
  const { kind, reasons } = related;
  return { address, vmcb, bytes: candidate.bytes, kind, reasons, score: candidate.score };
}
