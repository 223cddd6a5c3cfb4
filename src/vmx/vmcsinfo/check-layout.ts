import { isAccessRights } from "../access-rights.ts";
import { isPossibleEncoding } from "../encoding.ts";
import { fieldNamed } from "../fields.ts";
import { offsetOf, type VmcsLayout } from "../layout.ts";
import { outOfRange, overlaps } from "./judge.ts";
import { encodingText, fieldText } from "./names.ts";
import type { VmcsInfoProblem } from "./types.ts";

/** What is wrong with a layout, or missing for decoding regions by it. */
export interface LayoutFinding {
  readonly kind: VmcsInfoProblem["kind"] | "missing" | "access-rights-unknown";
  readonly encoding: number | undefined;
  readonly message: string;
}

const SEGMENTS = ["ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"];
const STATE_NAMES = [
  "GUEST_CR0",
  "GUEST_CR3",
  "GUEST_CR4",
  "GUEST_RSP",
  "GUEST_RIP",
  "GUEST_RFLAGS",
  "GUEST_GDTR_BASE",
  "GUEST_GDTR_LIMIT",
  "GUEST_IDTR_BASE",
  "GUEST_IDTR_LIMIT",
  ...SEGMENTS.flatMap((name) =>
    ["SELECTOR", "BASE", "LIMIT", "AR_BYTES"].map((part) => `GUEST_${name}_${part}`),
  ),
];

/** Field → what cannot be told without it. */
const NEEDED: ReadonlyMap<number, string> = new Map(
  [
    ...STATE_NAMES.map((name) => [name, "a vCPU's registers are not complete"] as const),
    ["EPT_POINTER", "the guest's memory cannot be found through EPT"],
    ["VMCS_LINK_POINTER", "a region found by searching cannot be told from other pages"],
    ["HOST_CR3", "a region found by searching cannot be tied to its host"],
    ["HOST_RIP", "a region found by searching cannot be tied to its host"],
  ].map(([name, without]) => [fieldNamed(name!)!.encoding, without!]),
);

/** Everything that can be said against a layout without a region. */
export function checkLayout(layout: VmcsLayout): LayoutFinding[] {
  const { fields, accessRights } = layout;
  const impossible = [...fields.keys()].filter((encoding) => !isPossibleEncoding(encoding));
  return [
    ...impossible.map((encoding) => ({
      kind: "unknown-encoding" as const,
      encoding,
      message: `encoding ${encodingText(encoding)} cannot be: reserved bits are set, or it is the high half of no field`,
    })),
    ...outOfRange(fields, accessRights),
    ...overlaps(fields, accessRights),
    ...lacking(layout),
  ];
}

/** What decoding needs and the layout does not say. */
export function lacking(layout: VmcsLayout): LayoutFinding[] {
  const findings = [...NEEDED]
    .filter(([encoding]) => offsetOf(layout, encoding) === undefined)
    .map(
      ([encoding, without]): LayoutFinding => ({
        kind: "missing",
        encoding,
        message: `${fieldText(encoding)} is missing: ${without}`,
      }),
    );
  const unread = layout.accessRights === undefined && [...layout.fields.keys()].some(isAccessRights);
  if (unread) {
    const message = "how access rights are stored is not known: they cannot be read";
    findings.push({ kind: "access-rights-unknown", encoding: undefined, message });
  }
  return findings;
}
