import fc from "fast-check";

/** Bytes that repeat, some more, some less: what pages are made of. */
export const block = fc
  .array(
    fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 40 }),
      fc
        .tuple(fc.nat(255), fc.integer({ min: 1, max: 5000 }))
        .map(([byte, count]) => new Uint8Array(count).fill(byte)),
      fc
        .tuple(fc.uint8Array({ minLength: 1, maxLength: 20 }), fc.integer({ min: 1, max: 400 }))
        .map(([bytes, count]) => Buffer.concat(Array.from({ length: count }, () => bytes))),
    ),
    { minLength: 1, maxLength: 12 },
  )
  .map((parts) => Buffer.concat(parts).subarray(0, 65_536));
