/**
 * Applies what QEMU's XBZRLE made of the difference between two copies of a page (`migration/xbzrle.c`; docs/devel/
 * migration: xbzrle): a length of bytes that stayed, a length of bytes that did not, those bytes; and again. Lengths are
 * ULEB128 of at most two bytes.
 * @param page the copy before, which becomes the new one
 * @returns false when it is damaged; the page is of no use then
 */
export function applyDelta(delta: Buffer, page: Buffer): boolean {
  let at = 0;
  let done = 0;
  while (at < delta.length) {
    const same = lengthAt(delta, at);
    if (same === undefined) return false;
    const changed = lengthAt(delta, same.end);
    if (changed === undefined || changed.length === 0) return false;
    const from = done + same.length;
    const end = changed.end + changed.length;
    if (from + changed.length > page.length || end > delta.length) return false;
    delta.copy(page, from, changed.end, end);
    done = from + changed.length;
    at = end;
  }
  return true;
}

function lengthAt(bytes: Buffer, at: number): { readonly length: number; readonly end: number } | undefined {
  const first = bytes[at];
  if (first === undefined) return undefined;
  if (first < 0x80) return { length: first, end: at + 1 };
  const second = bytes[at + 1];
  if (second === undefined || second >= 0x80) return undefined;
  return { length: (first & 0x7f) + second * 0x80, end: at + 2 };
}
