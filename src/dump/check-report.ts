import type { Coverage } from "../core/coverage.ts";
import type { Where } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";

/** An error is damage; a warning is worth knowing of a dump that may be whole. */
export type Severity = "error" | "warning";

/** What can be found, under a code that never changes. */
export interface FindingKind {
  readonly code: string;
  readonly severity: Severity;
}

/** Where it was found; `offset` is one in the file, or in what a compressed or flattened file holds. */
export interface Place extends Where {
  /** Physical, of the process's own in the core of a process. */
  readonly address?: number;
}

export interface Finding extends FindingKind {
  readonly message: string;
  readonly where: Place;
}

const error = (code: string) => ({ code, severity: "error" }) as const;
const warning = (code: string) => ({ code, severity: "warning" }) as const;

/** Everything that checks of dumps find; `report/codes.ts` explains each. */
export const FOUND = {
  unpacking: error("VRF001"),
  streamCut: error("VRF002"),
  streamRecord: error("VRF003"),
  streamGap: error("VRF004"),
  streamOddity: warning("VRF005"),
  header: error("VRF006"),
  table: error("VRF007"),
  memoryMissing: error("VRF008"),
  pageUnreadable: error("VRF009"),
  notes: error("VRF010"),
  cpuTwice: warning("VRF011"),
  noteOddity: warning("VRF012"),
  segmentImpossible: error("VRF013"),
  segmentCut: error("VRF014"),
  segmentBytes: error("VRF015"),
  segmentAddresses: error("VRF016"),
  memoryDiffers: warning("VRF017"),
  incomplete: error("VRF018"),
  contradiction: error("VRF019"),
  headerOddity: warning("VRF020"),
  dumpedNoRam: error("VRF021"),
  pageUnwritten: error("VRF022"),
  pageOutside: error("VRF023"),
  pageInTables: error("VRF024"),
  pageSize: error("VRF025"),
  pageRawSize: error("VRF026"),
  pageFlags: error("VRF027"),
  pagePacked: error("VRF028"),
  pageLength: error("VRF029"),
  pageOverlap: error("VRF030"),
  overlapUnknown: warning("VRF031"),
  parts: error("VRF032"),
  onePart: warning("VRF033"),
  unread: warning("VRF034"),
} as const satisfies Readonly<Record<string, FindingKind>>;

/** What a check of a dump tells, and by what it is told how deep to look. */
export interface CheckReport {
  /** A message that is a function is called for if it is kept: of a damaged dump there may be millions. */
  readonly find: (kind: FindingKind, message: string | (() => string), where?: Place) => void;
  /** Whether only some of the pages' contents are looked at (`stepOf`). */
  readonly quick: boolean;
  readonly progress: JobContext["progress"];
  readonly checkpoint: JobContext["checkpoint"];
}

/** What a check came by. */
export interface Checked {
  readonly coverage: Coverage;
  /** Pages whose contents the file has, and how many of them were read. */
  readonly pages: { readonly total: number; readonly read: number };
}

/** A quick check reads at most about so many pages: a few seconds, whatever the size of the dump. */
const QUICK_PAGES = 16_384;

/** Every how many-th page of so many is read; all of a small dump's. */
export const stepOf = (pages: number, { quick }: Pick<CheckReport, "quick">): number =>
  quick ? Math.max(1, Math.ceil(pages / QUICK_PAGES)) : 1;

/** Findings of one kind. */
export interface FindingGroup extends FindingKind {
  readonly count: number;
  /** The first of them. */
  readonly first: readonly Finding[];
}

/** So many of a kind are kept. */
const KEPT = 10;

/** A place without what is beyond every file and memory, and reads as Infinity. */
const known = ({ file, offset = Number.NaN, address = Number.NaN }: Place): Place => ({
  ...(file === undefined ? {} : { file }),
  ...(Number.isFinite(offset) ? { offset } : {}),
  ...(Number.isFinite(address) ? { address } : {}),
});

/** Collects findings by kind, in bounded memory however many there are. */
export class Findings {
  readonly #groups = new Map<string, { count: number; first: Finding[] }>();

  readonly find: CheckReport["find"] = ({ code, severity }, message, where = {}) => {
    const key = `${severity} ${code}`;
    let group = this.#groups.get(key);
    if (group === undefined) {
      group = { count: 0, first: [] };
      this.#groups.set(key, group);
    }
    group.count++;
    if (group.first.length === KEPT) return;
    const words = typeof message === "string" ? message : message();
    group.first.push({ code, severity, message: words, where: known(where) });
  };

  /** Errors before warnings, each in the order of their codes. */
  get groups(): FindingGroup[] {
    return [...this.#groups]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, { count, first }]) => ({
        code: first[0]!.code,
        severity: first[0]!.severity,
        count,
        first,
      }));
  }
}
