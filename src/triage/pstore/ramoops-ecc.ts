import { ReedSolomon } from "../../codec/reed-solomon.ts";
import { ZONE_HEADER, type Zone } from "./ramoops-layout.ts";
import type { EccFacts } from "./record.ts";

/** Bytes of data that have a parity of their own (Linux fs/pstore/ram_core.c persistent_ram_init_ecc()). */
const BLOCK = 128;
/** What ecc=1 means. */
const USUAL = 16;
const MAX_ECC = 64;
/** Zones that tell the size of the code. */
const ASKED = 8;

/** Where a zone of a code keeps what. */
export interface EccPlan {
  /** Bytes of data that the zone takes. */
  readonly capacity: number;
  readonly blocks: number;
}

/** @returns undefined where a zone is too small for the code */
export function eccPlan(span: number, ecc: number): EccPlan | undefined {
  const room = span - ZONE_HEADER;
  if (ecc === 0) return { capacity: room, blocks: 0 };
  const blocks = Math.ceil((room - ecc) / (BLOCK + ecc));
  const capacity = room - (blocks + 1) * ecc;
  return blocks < 1 || capacity < 1 ? undefined : { capacity, blocks };
}

/** Bytes of parity as a parameter of the module says them. */
export const toldEcc = (ecc: number): number => (ecc === 1 ? USUAL : ecc);

/** How many bytes of parity there are: by which the headers' parity is right. 0 where none is. */
export function findEcc(bytes: Uint8Array, zones: readonly Zone[]): number {
  const asked = zones.filter(({ use }) => use === "dmesg").slice(0, ASKED);
  const sizes = [USUAL, ...Array.from({ length: MAX_ECC - 1 }, (_, i) => i + 2)];
  let best = { ecc: 0, right: 0 };
  for (const ecc of sizes) {
    const right = asked.filter((zone) => isHeaderRight(bytes, zone, ecc)).length;
    if (right > best.right) best = { ecc, right };
  }
  // Two bytes are right by chance once in 65536 times.
  return best.right > 1 || best.ecc > 3 ? best.ecc : 0;
}

function isHeaderRight(bytes: Uint8Array, { offset, span }: Zone, ecc: number): boolean {
  const plan = eccPlan(span, ecc);
  if (plan === undefined || offset + span > bytes.length) return false;
  const at = offset + ZONE_HEADER + plan.capacity + plan.blocks * ecc;
  const header = bytes.subarray(offset, offset + ZONE_HEADER);
  return new ReedSolomon(ecc).isRight(header, bytes.subarray(at, at + ecc));
}

/**
 * How long a zone of console, ftrace or pmsg is: a power of two, but what follows may be unused, so that the next
 * signature does not tell. The header's parity does.
 */
export function tailSpan(bytes: Uint8Array, zone: Zone, ecc: number): number {
  if (ecc === 0 || isHeaderRight(bytes, zone, ecc)) return zone.span;
  const most = 2 ** Math.floor(Math.log2(zone.span));
  for (let span = most; span > ZONE_HEADER; span /= 2) {
    if (isHeaderRight(bytes, { ...zone, span }, ecc)) return span;
  }
  return most;
}

/** What a zone's header says, of the bytes as they are then. */
export interface ZoneHeader {
  /** Bytes of data. */
  readonly size: () => number;
  /** Whether the signature is one. */
  readonly isSigned: () => boolean;
}

/**
 * Repairs a zone in place: its header, and the blocks that hold data.
 * @param zone the bytes of the zone, and no more
 */
export function repairZone(zone: Uint8Array, ecc: number, header: ZoneHeader): EccFacts | undefined {
  const plan = eccPlan(zone.length, ecc);
  if (ecc === 0 || plan === undefined) return undefined;
  const code = new ReedSolomon(ecc);
  let corrected = 0;
  let unrecoverable = 0;
  const repair = (data: Uint8Array, parity: Uint8Array) => {
    const wrong = code.repair(data, parity);
    if (wrong === undefined) unrecoverable++;
    else corrected += wrong;
  };
  const data = zone.subarray(ZONE_HEADER, ZONE_HEADER + plan.capacity);
  const parity = zone.subarray(ZONE_HEADER + plan.capacity);
  const before = zone.slice(0, ZONE_HEADER);
  repair(zone.subarray(0, ZONE_HEADER), parity.subarray(plan.blocks * ecc, (plan.blocks + 1) * ecc));
  if (!header.isSigned()) {
    // Few bytes among zeros are near to zeros alone, which are a word of the code too.
    zone.set(before);
    return { corrected: 0, unrecoverable: 1 };
  }
  const size = Math.min(plan.capacity, header.size());
  for (let block = 0; block * BLOCK < size; block++) {
    repair(
      data.subarray(block * BLOCK, (block + 1) * BLOCK),
      parity.subarray(block * ecc, (block + 1) * ecc),
    );
  }
  return { corrected, unrecoverable };
}
