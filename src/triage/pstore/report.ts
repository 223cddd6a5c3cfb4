import { plural } from "../../core/text.ts";
import type { Detected } from "../finding.ts";
import { type Crash, crashesOf, type Dump, dumpName, dumpsOf } from "./dumps.ts";
import { consoleEvent, crashFinding, dumpEvent, mceFinding, unreadFinding } from "./findings.ts";
import { type PstoreFile, type PstoreOptions, type ReadStore, readStore } from "./read-file.ts";
import type { Problem, PstoreRecord } from "./record.ts";

/** A firmware error log that the kernel kept, to be decoded by whoever knows RTAS. */
export interface RtasRecord {
  readonly source: string;
  readonly offset: number | undefined;
  readonly id: bigint | undefined;
  readonly bytes: Buffer;
}

/** A file that was taken for a store. */
export interface StoreFacts {
  readonly path: string;
  readonly kind: ReadStore["kind"];
  readonly records: number;
}

/** What pstore has to say of a guest. */
export interface PstoreReport extends Detected {
  readonly stores: readonly StoreFacts[];
  /** Each once, however often it was found, in the order of the files. */
  readonly records: readonly PstoreRecord[];
  /** By time. */
  readonly dumps: readonly Dump[];
  /** By time: the last is the last that the guest had. */
  readonly crashes: readonly Crash[];
  readonly rtas: readonly RtasRecord[];
  readonly problems: readonly Problem[];
  /** Records found more than once, in files that are copies of others. */
  readonly copies: number;
}

/** Records kept: a store has some hundred at most. */
const MAX_RECORDS = 4096;
/** Bytes of them kept together. */
const MAX_BYTES = 32 * 2 ** 20;
const MAX_PROBLEMS = 256;

/** Reads stores one file after another; keeps what is in them, within bounds, not the files. */
export class PstoreReader {
  readonly #options: PstoreOptions;
  readonly #records: PstoreRecord[] = [];
  readonly #seen = new Map<string, number[]>();
  readonly #stores: StoreFacts[] = [];
  readonly #problems: Problem[] = [];
  /** Ids of virtio-pstore's files, by the directory. */
  readonly #numbered = new Map<string, { least: bigint; most: bigint }>();
  #bytes = 0;
  #copies = 0;
  #left = 0;
  #packed = 0;

  constructor(options: PstoreOptions = {}) {
    this.#options = options;
  }

  /** @returns what the file was taken for; undefined when it is no store */
  add(file: PstoreFile): ReadStore["kind"] | undefined {
    const store = readStore(file, this.#options);
    if (store === undefined) return undefined;
    const { kind, records, problems, named } = store;
    this.#stores.push({ path: file.path, kind, records: records.length });
    for (const record of records) this.#keep(record);
    for (const problem of problems) this.#problem(problem);
    if (named?.form === "mount" && named.packed) this.#packed++;
    if (named?.form === "virtio" && named.id !== undefined) this.#number(file.path, named.id);
    return kind;
  }

  /** Says what all of it comes to. */
  end(): PstoreReport {
    const records = this.#records;
    const dumps = dumpsOf(records);
    const crashes = crashesOf(dumps, this.#options.erased === true);
    for (const problem of this.#lastProblems(dumps)) this.#problem(problem);
    const mce = records.filter(({ type, erased }) => type === "mce" && !erased);
    const unread = records.filter(({ compression, erased }) => compression === "unknown" && !erased);
    return {
      stores: this.#stores,
      records,
      dumps,
      crashes,
      rtas: records.flatMap(({ type, source, offset, id, bytes }) =>
        type === "rtas" ? [{ source, offset, id, bytes }] : [],
      ),
      problems: this.#problems,
      copies: this.#copies,
      findings: [
        ...crashes.map((crash) => crashFinding(crash, dumps)),
        ...mce.map(mceFinding),
        ...(crashes.length === 0
          ? unread.slice(0, 1).map((record) => unreadFinding(record, unread.length))
          : []),
      ],
      events: [...dumps.map(dumpEvent), ...records.flatMap(consoleEvent)],
    };
  }

  #keep(record: PstoreRecord): void {
    const { type, header, bytes, erased } = record;
    const key = `${type} ${header?.reason} ${header?.count} ${header?.part} ${erased}`;
    const seen = this.#seen.get(key) ?? [];
    const copy = seen.find((i) => this.#records[i]!.bytes.equals(bytes));
    if (copy !== undefined) {
      this.#copies++;
      const kept = this.#records[copy]!;
      this.#records[copy] = { ...kept, time: kept.time ?? record.time, id: kept.id ?? record.id };
      return;
    }
    if (this.#records.length >= MAX_RECORDS || this.#bytes + bytes.length > MAX_BYTES) {
      this.#left++;
      return;
    }
    this.#bytes += bytes.length;
    seen.push(this.#records.push(record) - 1);
    this.#seen.set(key, seen);
  }

  #problem(problem: Problem): void {
    if (this.#problems.length < MAX_PROBLEMS) this.#problems.push(problem);
  }

  #number(path: string, id: bigint): void {
    const directory = path.slice(0, path.lastIndexOf("/") + 1);
    const { least, most } = this.#numbered.get(directory) ?? { least: id, most: id };
    this.#numbered.set(directory, { least: id < least ? id : least, most: id > most ? id : most });
  }

  #lastProblems(dumps: readonly Dump[]): Problem[] {
    const problems = dumps.filter(({ missing }) => missing.length > 0).map(missingProblem);
    for (const [directory, { least }] of this.#numbered) {
      if (least <= 1n) continue;
      const message = `${directory}: the files begin with number ${least}: those before it were rotated away, or the guest deleted them`;
      problems.push({
        code: "TRI306",
        message,
        source: directory,
        hint: "start QEMU with a larger file-max=",
      });
    }
    if (this.#packed > 0) {
      const message = `${plural(this.#packed, "file")} of the guest's pstore ended in .enc.z: its own kernel could not unpack what the one before it wrote`;
      problems.push({ code: "TRI304", message, source: "pstore" });
    }
    if (this.#left > 0) {
      const message = `${plural(this.#left, "record")} more than are kept (${MAX_RECORDS}, or ${MAX_BYTES} bytes) were left out`;
      problems.push({ code: "TRI308", message, source: "pstore" });
    }
    return problems;
  }
}

/** Reads files that are in memory. */
export function pstoreReport(files: readonly PstoreFile[], options: PstoreOptions = {}): PstoreReport {
  const reader = new PstoreReader(options);
  for (const file of files) reader.add(file);
  return reader.end();
}

/** `part 3`, `parts 1-14, 16`. */
export const partsText = (numbers: readonly number[]): string =>
  `${numbers.length === 1 ? "part" : "parts"} ${rangesText(numbers)}`;

/** Numbers as ranges: `1-14, 16`. */
export function rangesText(numbers: readonly number[]): string {
  const ranges: string[] = [];
  for (let i = 0; i < numbers.length && ranges.length < 16; ) {
    let end = i;
    while (numbers[end + 1] === numbers[end]! + 1) end++;
    ranges.push(end === i ? `${numbers[i]}` : `${numbers[i]}-${numbers[end]}`);
    i = end + 1;
  }
  return ranges.join(", ");
}

function missingProblem(dump: Dump): Problem {
  const { missing, records } = dump;
  const newest = missing[0] === 1 ? ", the newest text among them" : "";
  const message = `${dumpName(dump)} is not whole: ${partsText(missing)} missing${newest}`;
  return { code: "TRI301", message, source: records[0]!.source };
}
