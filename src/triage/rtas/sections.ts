import { parseSection, SECTION_SIZE, type SectionHeader } from "./header.ts";
import { SECTIONS } from "./names.ts";
import { type RtasFact, SECTION_READERS } from "./section-facts.ts";

/** One section of a platform event log, as far as its bytes are there. */
export interface RtasSection {
  /** Two characters, as in the log. */
  readonly id: string;
  /** What it is, in words. */
  readonly name: string;
  /** Bytes from the start of the log, and bytes that it says it has, its head included. */
  readonly offset: number;
  readonly length: number;
  readonly version: number;
  readonly subtype: number;
  /** What it says, in the order of the section. */
  readonly facts: Readonly<Record<string, RtasFact>>;
  /** Why it could not be read in full. */
  readonly damage?: string;
}

/** Firmware writes a dozen; RTAS_ERROR_LOG_MAX has room for 253 of nothing but a head. */
const MAX_SECTIONS = 64;

/**
 * The sections of a platform event log.
 * @param log from the fixed header on
 * @param start of the first section; @param end of the last, which may lie behind the bytes that are there
 * @returns those that could be read, the last perhaps in part, and why reading ended early
 */
export function readSections(
  log: Buffer,
  start: number,
  end: number,
): { readonly sections: readonly RtasSection[]; readonly damage: string | undefined } {
  const sections: RtasSection[] = [];
  let offset = start;
  while (offset + SECTION_SIZE <= end) {
    if (sections.length === MAX_SECTIONS) return { sections, damage: "it has more sections than any log" };
    if (offset + SECTION_SIZE > log.length) return { sections, damage: "the log is cut inside its sections" };
    const header = parseSection(log.subarray(offset, offset + SECTION_SIZE));
    const { id, length } = header;
    // What fills a log up to its length.
    if (id === "\0\0" && length === 0) break;
    if (length < SECTION_SIZE) {
      return { sections, damage: `a section has a length of ${length}, less than its head` };
    }
    sections.push(readSection(log, offset, Math.min(end, log.length), header));
    offset += length;
  }
  const damage = offset > end ? "a section goes on behind the end of the log" : undefined;
  return { sections, damage };
}

function readSection(log: Buffer, offset: number, end: number, header: SectionHeader): RtasSection {
  const { id, length, version, subtype } = header;
  const body = log.subarray(offset + SECTION_SIZE, Math.min(end, offset + length));
  const reader = Object.hasOwn(SECTION_READERS, id) ? SECTION_READERS[id] : undefined;
  const name = Object.hasOwn(SECTIONS, id) ? SECTIONS[id]! : "vendor or unknown section";
  const plain = { id, name, offset, length, version, subtype };
  if (reader === undefined) return { ...plain, facts: {} };
  if (body.length < reader.size) {
    const damage = `${id} needs ${reader.size} bytes and has ${body.length}`;
    return { ...plain, facts: {}, damage };
  }
  return { ...plain, facts: reader.read(body, header) };
}
