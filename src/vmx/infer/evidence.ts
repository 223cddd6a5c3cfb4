import { viewOf } from "../../core/bytes.ts";
import { ACCESS_RIGHTS_FORMS, type AccessRightsForm, isAccessRights } from "../access-rights.ts";
import { VMCS_FIELDS } from "../fields.ts";
import { revisionOf } from "../region.ts";
import { bitsOf, type KnownRegion } from "./claims.ts";
import { seek } from "./match.ts";

/** Of the revision that most have, and with most of what was written to them: others are not as the processor left them. */
export function usableRegions(regions: readonly KnownRegion[]): KnownRegion[] {
  const counts = new Map<number, number>();
  for (const { bytes } of regions) {
    const revision = revisionOf(bytes);
    counts.set(revision, (counts.get(revision) ?? 0) + 1);
  }
  const [best] = [...counts].sort(([, a], [, b]) => b - a);
  return regions.filter((region) => revisionOf(region.bytes) === best?.[0] && isCurrent(region));
}

/** Values of so many bits are in a page of others by chance once in a million. */
const REMARKABLE_BITS = 30;

function isCurrent({ bytes, known }: KnownRegion): boolean {
  const written = [...known.values()].filter(
    (expected) =>
      expected.trust === "written" && expected.mask === undefined && bitsOf(expected, 8) >= REMARKABLE_BITS,
  );
  const words = new Set<bigint>();
  const view = viewOf(bytes);
  for (let at = 8; at + 8 <= view.byteLength; at += 4) words.add(view.getBigUint64(at, true));
  const present = written.filter(({ value }) => words.has(value)).length;
  return present > 0 && 2 * present >= written.length;
}

/** The form in which all access rights that are known are somewhere; `sure` where it is the only one. */
export function formOf(regions: readonly KnownRegion[]): {
  readonly form: AccessRightsForm | undefined;
  readonly sure: boolean;
} {
  const fields = VMCS_FIELDS.filter(({ encoding }) => isAccessRights(encoding));
  const possible = ACCESS_RIGHTS_FORMS.filter((form) => {
    const found = fields.flatMap(({ encoding, name }) => seek(encoding, name, regions, form) ?? []);
    const counted = found.filter(({ trust, bits }) => trust === "written" && bits > 0);
    return counted.length > 0 && counted.every(({ places }) => places.size > 0);
  });
  return { form: possible[0], sure: possible.length === 1 };
}
