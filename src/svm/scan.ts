import { alignDown, PAGE_SIZE } from "../core/address.ts";
import { viewOf } from "../core/bytes.ts";
import { mayBeVmcb } from "./first-look.ts";
import { identifyVmcb, type VmcbKind } from "./kind.ts";
import { isConvincing, type Score, scoreVmcb } from "./score.ts";
import { decodeVmcb } from "./vmcb.ts";

/** A page that passed as a VMCB or host save area. */
export interface VmcbCandidate {
  /** Physical address. */
  readonly address: number;
  /** A copy of the page. */
  readonly bytes: Buffer;
  readonly score: Score;
  readonly kind: VmcbKind;
  readonly reasons: readonly string[];
}

/** More vCPUs than any host has; pages and what is decoded of them are some 80 MiB. */
const MAX_CANDIDATES = 4096;

/** Finds VMCBs in physical memory that is fed to it piece by piece. */
export class VmcbScanner {
  readonly candidates: VmcbCandidate[] = [];
  /** Whether there may be more: pages were left unexamined once as many as are kept had been found. */
  overflowed = false;
  /** Pages that passed the first look and failed the score. */
  rejected = 0;
  readonly #limit: number;

  constructor(limit = MAX_CANDIDATES) {
    this.#limit = limit;
  }

  /**
   * Looks at every whole page of a piece.
   * @param bytes physical memory; the buffer may be reused afterwards @param address of its first byte, page-aligned
   */
  scan(bytes: Buffer, address: number): void {
    const view = viewOf(bytes);
    const end = alignDown(bytes.length, PAGE_SIZE);
    for (let offset = 0; offset < end; offset += PAGE_SIZE) {
      if (mayBeVmcb(view, offset))
        this.#consider(bytes.subarray(offset, offset + PAGE_SIZE), address + offset);
    }
  }

  #consider(page: Buffer, address: number): void {
    // A guest that fills its memory with VMCBs must not slow the rest of the scan down.
    if (this.candidates.length >= this.#limit) {
      this.overflowed = true;
      return;
    }
    const vmcb = decodeVmcb(page);
    const score = scoreVmcb(vmcb);
    if (!isConvincing(score)) {
      this.rejected++;
      return;
    }
    this.candidates.push({ address, bytes: Buffer.from(page), score, ...identifyVmcb(vmcb) });
  }
}
