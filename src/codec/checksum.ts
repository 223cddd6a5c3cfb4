/** What to do when a checksum does not match: unlike a stream that breaks off, this leaves no gap behind. */
export const WRONG_BYTES_HINT =
  "copy the compressed file again: wrong bytes are among those unpacked, and nothing tells them from right ones";
