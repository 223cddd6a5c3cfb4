import { bytesText, hex, plural, printable, shellWord } from "../core/text.ts";
import type { InferResult } from "../jobs/infer-layout.ts";
import { widthOf } from "../vmx/encoding.ts";
import { VMCS_FIELDS } from "../vmx/fields.ts";
import type { InferredField, Verdict } from "../vmx/infer/infer.ts";
import { agreements } from "../vmx/vmcsinfo/known.ts";
import { encodingText, nameOf, offsetText } from "../vmx/vmcsinfo/names.ts";
import { placesOf } from "../vmx/vmcsinfo.ts";
import { alignedColumns } from "./columns.ts";
import { leftOutJson, leftOutLines, type Product } from "./vmcsinfo.ts";

const VERDICTS: readonly Verdict[] = ["certain", "likely", "ambiguous", "unknown"];

/** What was inferred, field by field, and what was written. */
export function inferText(result: InferResult, product: Product | undefined): string {
  const { input, inferred, vms, info } = result;
  const file = printable(input.path);
  const release = result.linux?.release?.value;
  const host = release === undefined ? "" : ` of Linux ${printable(release)}`;
  const { used, fields, revisionId } = inferred;
  const regions = `${plural(used, "VMCS", "VMCSs")} of ${plural(vms, "VM")}`;
  const lines = [
    `${file}: layout of revision ${hex(revisionId)}, inferred from ${regions}${host}`,
    `  ${countText(fields)}; nothing is known of ${VMCS_FIELDS.length - fields.length} others`,
    ...alignedColumns([
      ["offset", "encoding", "name", "certainty", "why"],
      ...[...fields].filter(hasPlaces).sort(byPlace).map(rowOf),
    ]).map((line) => `  ${line}`),
    `access rights ${inferred.accessRights ?? "are stored in an unknown form"}`,
    `layout        ${agreementText(info)}`,
    ...(product === undefined || result.written === undefined
      ? []
      : [
          `wrote ${printable(product.path)}: ${product.to}, ${plural(info.records.length, "field")}, ${bytesText(result.written.bytes.length)}`,
          ...leftOutLines(result.written.leftOut),
        ]),
    `next: ${nextStep(result, product)}`,
  ];
  return `${lines.join("\n")}\n`;
}

function countText(fields: readonly InferredField[]): string {
  const parts = VERDICTS.map(
    (verdict) => `${fields.filter((field) => field.verdict === verdict).length} ${verdict}`,
  );
  return `${plural(fields.length, "field")}: ${parts.join(", ")}`;
}

const hasPlaces = ({ verdict }: InferredField): boolean => verdict !== "unknown";
const firstPlace = ({ offset, places }: InferredField): number => offset ?? places[0] ?? 0;
const byPlace = (a: InferredField, b: InferredField): number =>
  firstPlace(a) - firstPlace(b) || a.encoding - b.encoding;

const rowOf = ({ encoding, offset, places, verdict, reason }: InferredField): string[] => [
  offset === undefined ? places.map(offsetText).join("|") : offsetText(offset),
  encodingText(encoding),
  nameOf(encoding) ?? "?",
  verdict,
  printable(reason),
];

function agreementText({ records }: InferResult["info"]): string {
  const [best] = agreements(placesOf(records));
  if (best === undefined || best.equal === 0) return "agrees with none of those known";
  const { layout, equal, shared } = best;
  return `agrees with ${layout.name} in ${equal} of ${plural(shared, "field")}`;
}

function nextStep({ input }: InferResult, product: Product | undefined): string {
  const host = shellWord(input.path);
  return product === undefined || product.path === "-"
    ? `guestcore vmcs layout infer ${host} -o vmcsinfo.txt`
    : `guestcore extract ${host} --vmcsinfo ${shellWord(product.path)} -o guest.vmcore`;
}

/** `result` of guestcore/vmcs-layout/1 for `infer`; `fields` is what `--vmcsinfo` and `layout show` read. */
export function inferJson({ inferred, vms, vcpus, written }: InferResult, product: Product | undefined) {
  const { fields, revisionId, accessRights, used, leftOut } = inferred;
  const placed = fields.filter(({ offset }) => offset !== undefined);
  return {
    name: "inferred",
    kind: "processor",
    revisionId,
    fieldCount: placed.length,
    accessRights,
    source: `${plural(used, "VMCS", "VMCSs")} of a host and what its KVM knows to be in them`,
    confidence: countText(fields),
    fields: placed.map(({ encoding, offset, verdict, reason }) => ({
      encoding: encodingText(encoding),
      name: nameOf(encoding),
      width: widthOf(encoding),
      offset,
      inferred: true,
      certainty: verdict,
      reason,
    })),
    open: fields
      .filter(({ offset }) => offset === undefined)
      .map(({ encoding, verdict, places, reason }) => ({
        encoding: encodingText(encoding),
        name: nameOf(encoding),
        certainty: verdict,
        places,
        reason,
      })),
    inference: { vms, vcpus, used, leftOut },
    output:
      product === undefined || written === undefined
        ? undefined
        : { ...product, size: written.bytes.length, leftOut: leftOutJson(written.leftOut) },
  };
}
