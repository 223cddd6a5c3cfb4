/** Linux has no larger block devices. */
const MAX_SIZE = 2 ** 52;

/**
 * Size of a block device, which no stat tells, by reading: doubling until nothing is there, then halving.
 * @param hasByte whether there is a byte at an offset
 */
export function sizeByReading(hasByte: (offset: number) => boolean): number {
  if (!hasByte(0)) return 0;
  let [last, beyond] = [0, 1];
  while (beyond < MAX_SIZE && hasByte(beyond)) [last, beyond] = [beyond, 2 * beyond];
  while (beyond - last > 1) {
    const middle = last + Math.floor((beyond - last) / 2);
    if (hasByte(middle)) last = middle;
    else beyond = middle;
  }
  return last + 1;
}
