import { PAGE_SIZE } from "../core/address.ts";
import { type AddressSpace, type PhysicalMemory, readPhysical } from "../core/memory.ts";

/**
 * Copies bytes at a virtual address into `target`, across pages.
 * @returns how many leading bytes are known
 */
export function readVirtual(
  memory: PhysicalMemory,
  space: AddressSpace,
  address: bigint,
  target: Uint8Array,
): number {
  let done = 0;
  while (done < target.length) {
    const at = BigInt.asUintN(64, address + BigInt(done));
    const length = Math.min(PAGE_SIZE - Number(at % BigInt(PAGE_SIZE)), target.length - done);
    const mapping = space.translate(at);
    if (!mapping.mapped) break;
    const got = readPhysical(memory, mapping.physical, target.subarray(done, done + length));
    done += got;
    if (got < length) break;
  }
  return done;
}
