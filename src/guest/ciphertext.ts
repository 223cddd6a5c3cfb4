import { alignDown, PAGE_SIZE } from "../core/address.ts";
import type { PhysicalMemory } from "../core/memory.ts";
import type { Warning } from "../core/warnings.ts";

/** Pages that are looked at, at equal distances. */
const SAMPLES = 1024;
/** Fewer that hold anything say nothing. */
const MIN_PAGES = 64;
/** Bits a byte: 4096 random bytes have 7.955 ± 0.002, packed data mostly less than this. */
const RANDOM = 7.94;
/** Of what holds anything; all of a machine's memory is packed data in none. */
const SHARE = 0.97;

/**
 * Whether a machine's memory is ciphertext as far as samples tell: AMD SEV and Intel TDX encrypt with the address in the
 * key stream or tweak (APM vol. 2 §15.34.9), so that even pages of zeros look random and no two are alike.
 */
export function looksEncrypted(memory: PhysicalMemory): boolean {
  const size = memory.ranges.reduce((sum, { start, end }) => sum + end - start, 0);
  const step = Math.max(PAGE_SIZE, alignDown(size / SAMPLES, PAGE_SIZE));
  const page = Buffer.alloc(PAGE_SIZE);
  let [held, random] = [0, 0];
  for (const { start, end } of memory.ranges.slice(0, SAMPLES)) {
    for (let at = start; at < end && held < SAMPLES; at += step) {
      if (memory.readPage(at, page) !== "present") continue;
      const bits = entropyOf(page);
      if (bits === 0) continue;
      held++;
      if (bits >= RANDOM) random++;
    }
  }
  return held >= MIN_PAGES && random >= SHARE * held;
}

/** Shannon's, in bits a byte; 0 for a page of one byte's value. */
function entropyOf(bytes: Uint8Array): number {
  const counts = new Uint16Array(256);
  for (const byte of bytes) counts[byte]!++;
  let bits = 0;
  for (const count of counts) if (count > 0) bits -= (count / bytes.length) * Math.log2(count / bytes.length);
  return bits;
}

export const encryptedWarning = (): Warning => ({
  code: "GST011",
  message:
    "the guest's memory looks encrypted: no kernel is to be found in it, and nearly every page is as random",
  hint: "of a confidential guest (AMD SEV, Intel TDX) a dump is made by the guest itself, with kdump",
});
