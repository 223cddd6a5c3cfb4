import type { Range } from "../../core/ranges.ts";
import { type AccessRightsForm, accessRightsBytes, isAccessRights } from "../access-rights.ts";
import { bytesOf } from "../encoding.ts";
import { VMCS_FIELDS } from "../fields.ts";
import { revisionOf } from "../region.ts";
import type { KnownRegion } from "./claims.ts";
import { formOf, usableRegions } from "./evidence.ts";
import { type Sought, seek } from "./match.ts";
import { type Predicted, predict, rulesOf } from "./structure.ts";

/**
 * How sure a place is. `certain`: it is the only one in a region that holds what the hypervisor wrote there, values that
 * are not there by chance. `likely`: the only one, but the value says little, is derived and the same everywhere, or may
 * be old; or neighbours put the field there. `ambiguous`: several hold the values. `unknown`: too many, or none.
 */
export type Verdict = "certain" | "likely" | "ambiguous" | "unknown";

export interface InferredField {
  readonly encoding: number;
  readonly verdict: Verdict;
  /** Of `certain` and `likely`. */
  readonly offset: number | undefined;
  /** Of `ambiguous`: all places that hold its values and are no other field's. */
  readonly places: readonly number[];
  /** Why, in words. */
  readonly reason: string;
}

export interface InferredLayout {
  /** Of the regions used. */
  readonly revisionId: number;
  /** How access rights are stored; undefined where no region tells. */
  readonly accessRights: AccessRightsForm | undefined;
  /** Every field of which something is known, or that neighbours place, ascending by encoding. */
  readonly fields: readonly InferredField[];
  /** Regions used, and those left out: of another revision, or without what was written to them. */
  readonly used: number;
  readonly leftOut: number;
}

/** Vendors keep some hundred fields: more regions than this tell nothing new. */
const MAX_REGIONS = 512;
/** Bits that values tell together, so that they are not somewhere by chance: a page has 2^10 places. */
const TELLING_BITS = 16;
/** More places are as good as none. */
const MAX_PLACES = 16;

/**
 * Infers where a processor keeps the fields of a VMCS from what is known to be in some of its regions.
 * @param flushed whether all of their state is in memory; where a processor may still have some, nothing is certain
 * @returns undefined where no region holds what is known of it
 */
export function inferLayout(regions: readonly KnownRegion[], flushed: boolean): InferredLayout | undefined {
  const used = usableRegions(regions).slice(0, MAX_REGIONS);
  const [first] = used;
  if (first === undefined) return undefined;
  const rights = formOf(used);
  const form = rights.form ?? "rotated";
  const sought = VMCS_FIELDS.flatMap(({ encoding, name }) => {
    const found =
      isAccessRights(encoding) && rights.form === undefined ? undefined : seek(encoding, name, used, form);
    return found === undefined ? [] : [found];
  });
  const solver = new Solver(sought, form, { flushed, form: rights.sure });
  return {
    revisionId: revisionOf(first.bytes),
    accessRights: rights.form,
    fields: solver.solve(),
    used: used.length,
    leftOut: regions.length - used.length,
  };
}

interface Settled {
  readonly verdict: "certain" | "likely";
  readonly place: Range;
  readonly reason: string;
  /** Whether its place may tell those of others. */
  readonly anchors: boolean;
}

/** Settles fields one after the other: a place that is one field's is no other's. */
class Solver {
  readonly #settled = new Map<number, Settled>();
  readonly #sought: ReadonlyMap<number, Sought>;
  readonly #form: AccessRightsForm;
  /** Whether regions are as the processor left them, and whether access rights can be stored in one form only. */
  readonly #sure: { readonly flushed: boolean; readonly form: boolean };

  constructor(
    sought: readonly Sought[],
    form: AccessRightsForm,
    sure: { readonly flushed: boolean; readonly form: boolean },
  ) {
    this.#sought = new Map(sought.map((field) => [field.encoding, field]));
    this.#form = form;
    this.#sure = sure;
  }

  solve(): InferredField[] {
    while (this.#settleOnly("certain", (field) => this.#isCertain(field)));
    // Of what is only likely nothing follows for certain.
    while (this.#settleOnly("likely", (field) => isLikely(field)) || this.#settleByNeighbours());
    const all = VMCS_FIELDS.map(({ encoding }) => this.#fieldOf(encoding));
    return all.filter((field) => field !== undefined);
  }

  #isCertain({ encoding, trust, bits, distinct }: Sought): boolean {
    if (!this.#sure.flushed || bits < TELLING_BITS) return false;
    if (isAccessRights(encoding) && !this.#sure.form) return false;
    return trust === "written" || (trust === "derived" && distinct > 1);
  }

  /** Fields of which one place is left; those that want the same stay open. */
  #settleOnly(verdict: "certain" | "likely", isGood: (field: Sought) => boolean): boolean {
    const found = this.#open().flatMap((field) => {
      const [start, ...others] = this.#placesOf(field);
      if (start === undefined || others.length > 0 || !isGood(field)) return [];
      return [{ field, place: { start, end: start + field.size } }];
    });
    const clear = found.filter(
      ({ place }) => found.filter(({ place: other }) => overlap(place, other)).length === 1,
    );
    for (const { field, place } of clear) {
      this.#settled.set(field.encoding, { verdict, place, reason: onlyReason(field), anchors: true });
    }
    return clear.length > 0;
  }

  /** Fields that neighbours put where their values are, or whose values are not known. */
  #settleByNeighbours(): boolean {
    const anchors = new Map(
      [...this.#settled]
        .filter(([, field]) => field.anchors)
        .map(([encoding, { place }]) => [encoding, place]),
    );
    const rules = rulesOf(anchors, this.#possible());
    const found = VMCS_FIELDS.flatMap(({ encoding }) => {
      if (this.#settled.has(encoding)) return [];
      const size = this.#sizeOf(encoding);
      const predicted = predict(encoding, size, anchors, rules);
      if (predicted === undefined || !this.#mayBe(encoding, predicted)) return [];
      const { offset, strength, reason } = predicted;
      const place = { start: offset, end: offset + size };
      return this.#isTaken(place) ? [] : [{ encoding, place, strength, reason }];
    });
    const clear = found.filter(
      ({ place }) => found.filter(({ place: other }) => overlap(place, other)).length === 1,
    );
    for (const { encoding, place, strength, reason } of clear) {
      this.#settled.set(encoding, { verdict: "likely", place, reason, anchors: strength === "firm" });
    }
    return clear.length > 0;
  }

  /** The places left of fields whose values say something. */
  #possible(): ReadonlyMap<number, readonly number[]> {
    const open = this.#open().filter(({ trust, bits }) => trust !== "stale" && bits > 0);
    return new Map(open.map((field) => [field.encoding, this.#placesOf(field)]));
  }

  /** A field of which nothing is known only where both neighbours put it; 0 is beside one of them by chance. */
  #mayBe(encoding: number, { offset, strength }: Predicted): boolean {
    if (isAccessRights(encoding) && !this.#sure.form) return false;
    const field = this.#sought.get(encoding);
    if (field === undefined || field.trust === "stale") return strength === "firm";
    return field.places.has(offset) && (field.bits > 0 || strength !== "weak");
  }

  #sizeOf = (encoding: number): number =>
    isAccessRights(encoding) ? accessRightsBytes(this.#form) : bytesOf(encoding);

  #open(): Sought[] {
    return [...this.#sought.values()].filter(({ encoding }) => !this.#settled.has(encoding));
  }

  /** Places that are no settled field's. */
  #placesOf({ size, places }: Sought): number[] {
    return [...places].filter((start) => !this.#isTaken({ start, end: start + size }));
  }

  #isTaken(place: Range): boolean {
    for (const other of this.#settled.values()) if (overlap(place, other.place)) return true;
    return false;
  }

  #fieldOf(encoding: number): InferredField | undefined {
    const settled = this.#settled.get(encoding);
    if (settled !== undefined) {
      const { verdict, place, reason } = settled;
      return { encoding, verdict, offset: place.start, places: [], reason };
    }
    const field = this.#sought.get(encoding);
    if (field === undefined) return undefined;
    const places = this.#placesOf(field);
    const open = { encoding, offset: undefined };
    if (places.length === 0) return { ...open, verdict: "unknown", places, reason: missingReason(field) };
    if (places.length > MAX_PLACES) {
      return {
        ...open,
        verdict: "unknown",
        places: [],
        reason: `${places.length} places hold ${field.source}`,
      };
    }
    return { ...open, verdict: "ambiguous", places, reason: `any of them holds ${field.source}` };
  }
}

const overlap = (a: Range, b: Range): boolean => a.start < b.end && b.start < a.end;

/** What is 0 everywhere is not told by one place that is 0, and what may be old not by a short value. */
const isLikely = ({ trust, bits, encoding, places }: Sought): boolean =>
  trust === "stale" ? bits >= TELLING_BITS : bits > 0 || (bytesOf(encoding) === 8 && places.size === 1);

const onlyReason = ({ source, regions, distinct }: Sought): string =>
  `the only place that holds ${source}, ${distinct === 1 ? "one value" : `${distinct} values`} in ${regions === 1 ? "one VMCS" : `${regions} VMCSs`}`;

const missingReason = ({ source, places }: Sought): string =>
  places.size === 0 ? `no place holds ${source}` : `where ${source} is, other fields are`;
