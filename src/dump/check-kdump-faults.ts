import { hex } from "../core/text.ts";
import { type FindingKind, FOUND } from "./check-report.ts";
import type { DescriptorFault, PageBounds, PageDescriptor } from "./kdump-page.ts";

type Sentence = (descriptor: PageDescriptor, bounds: PageBounds) => string;

/** What a fault of a descriptor is found as, and in which words. */
export const DESCRIPTOR_FAULTS: Readonly<Record<DescriptorFault, readonly [FindingKind, Sentence]>> = {
  unwritten: [FOUND.pageUnwritten, () => "its descriptor is empty: the page was never written"],
  outside: [
    FOUND.pageOutside,
    ({ offset, size }, { size: file }) =>
      `its ${size} bytes at offset ${hexOffset(offset)} are not all in a file of ${file} bytes`,
  ],
  tables: [
    FOUND.pageInTables,
    ({ offset }) => `its bytes at offset ${hexOffset(offset)} are those of headers, bitmaps or descriptors`,
  ],
  size: [
    FOUND.pageSize,
    ({ size }, { blockSize }) => `its ${size} bytes are none, or more than a page has (${blockSize})`,
  ],
  flags: [FOUND.pageFlags, ({ flags }) => `the flags ${hex(flags)} are not those of one kind of compression`],
  "raw-size": [
    FOUND.pageRawSize,
    ({ size }, { blockSize }) => `it is not compressed and has ${size} bytes, not ${blockSize}`,
  ],
};

/** An offset of 2^53 or more reads as Infinity. */
const hexOffset = (offset: number): string => (Number.isFinite(offset) ? hex(offset) : "2^53 or more");
