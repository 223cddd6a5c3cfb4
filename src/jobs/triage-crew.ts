import { UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { shellWord } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import type { FoundFile } from "../io/artefacts.ts";
import { SharedWork, type Task } from "../io/shared-work.ts";
import { isStream } from "../io/stream.ts";
import type { SourceKind } from "../triage/verdict/types.ts";
import { type Reader, type Recognised, recognise, unreadable } from "./triage-artefact.ts";
import type { VmSources } from "./triage-group.ts";
import { READERS } from "./triage-readers.ts";
import { isTold } from "./triage-told.ts";
import { type JudgedVm, triageVm } from "./triage-vm.ts";
import type { TriageReply, TriageRequest } from "./triage-worker.ts";

/** Files that a thread is asked of at once. */
const BATCH = 16;
/** VMs that are ahead of the one whose turn it is, for each thread: a large one holds the others up no sooner. */
const AHEAD = 4;
/** A signal is heard within so many milliseconds while threads work. */
const CHECK_INTERVAL = 100;

export interface CrewOptions {
  readonly jobs: number;
  /** Readers of whoever calls; threads have their own. */
  readonly readers: Readonly<Partial<Record<SourceKind, Reader>>> | undefined;
}

/** A VM that is being judged, or will be. */
type Judging = Task<TriageRequest, TriageReply, JudgedVm>;

const quiet: JobContext["progress"] = { start: () => {}, update: () => {}, finish: () => {} };

/** Recognises files and judges VMs, here and, where that takes long, in threads too; the results are the same. */
export class TriageCrew {
  readonly #readers: Readonly<Partial<Record<SourceKind, Reader>>>;
  readonly #context: JobContext;
  readonly #isShared: boolean;
  readonly #work: SharedWork<TriageRequest, TriageReply>;
  /** Bytes of files of VMs that are done. */
  #done = 0;
  /** VMs that are added before the first of them is done. */
  readonly ahead: number;

  /** Threads run the compiled program: its TypeScript sources do all here. */
  constructor({ jobs, readers }: CrewOptions, files: number, context: JobContext) {
    const own = import.meta.url;
    const count = Math.min(jobs, files);
    this.#isShared = count > 1 && readers === undefined && own.endsWith(".js");
    const script = this.#isShared ? new URL("./triage-worker.js", own) : undefined;
    this.#work = new SharedWork(script, count - 1, (result) => this.#heeding(result));
    this.#readers = readers ?? READERS;
    this.#context = context;
    this.ahead = this.#isShared ? count * AHEAD : 1;
  }

  /**
   * What each file is, in order.
   * @throws IoError, UnsupportedError of what was named and cannot be looked at
   */
  async *recognise(files: readonly FoundFile[]): AsyncGenerator<readonly [FoundFile, Recognised]> {
    const batches = Array.from({ length: Math.ceil(files.length / BATCH) }, (_, index) =>
      files.slice(index * BATCH, (index + 1) * BATCH),
    );
    const tasks = batches.map((batch) =>
      this.#work.add<readonly (Recognised | undefined)[]>({
        request: batch.some(isNamed) ? undefined : { files: batch },
        here: () => this.#recogniseAll(batch),
        resultOf: ({ recognised }) => recognised,
      }),
    );
    for (const [index, batch] of batches.entries()) {
      const recognised = await this.#work.wait(tasks[index]!);
      for (const [at, file] of batch.entries()) yield [file, recognised[at] ?? (await recogniseOrTell(file))];
    }
  }

  /** How far threads are is told by the files of the VMs that are done; where there are none each file tells it. */
  begin(vms: readonly VmSources[]): void {
    if (!this.#isShared) return;
    this.#context.progress.start(vms.flatMap(({ sources }) => sources.map(sizeOf)).reduce(sum, 0), "reading");
  }

  /** Adds a VM to those to judge; its warnings are in the result, for when its turn comes. */
  judge(vm: VmSources, before: readonly Warning[]): Judging {
    const { temporaryDirectories, progress } = this.#context;
    // Errors do not go from thread to thread: what has some is done here.
    const isPlain = vm.sources.every(({ failure }) => failure === undefined);
    const context = { ...this.#context, warn: () => {}, progress: this.#isShared ? quiet : progress };
    return this.#work.add<JudgedVm>({
      request: isPlain ? { vm, before, temporaryDirectories } : undefined,
      here: () => triageVm(vm, this.#readers, before, context),
      resultOf: ({ judged }) =>
        judged === undefined || judged.hasFailure ? undefined : { ...judged, failure: undefined },
    });
  }

  /** Waits for a VM, and tells its warnings. */
  async told(judging: Judging): Promise<JudgedVm> {
    const judged = await this.#work.wait(judging);
    judged.result.warnings.forEach(this.#context.warn);
    if (this.#isShared) {
      this.#done += judged.result.sources.map(({ size }) => size).reduce(sum, 0);
      this.#context.progress.update(this.#done);
    }
    return judged;
  }

  async close(): Promise<void> {
    if (this.#isShared) this.#context.progress.finish();
    await this.#work.close();
  }

  async #recogniseAll(batch: readonly FoundFile[]): Promise<readonly Recognised[]> {
    const recognised: Recognised[] = [];
    for (const file of batch) {
      recognised.push(await recogniseOrTell(file));
      await this.#context.checkpoint();
    }
    return recognised;
  }

  /** Waits for threads, and hears signals meanwhile. */
  async #heeding<T>(result: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const stopped = new Promise<never>((_, reject) => {
      timer = setInterval(() => this.#context.checkpoint().catch(reject), CHECK_INTERVAL);
    });
    try {
      return await Promise.race([result, stopped]);
    } finally {
      clearInterval(timer);
    }
  }
}

const sum = (a: number, b: number): number => a + b;

const sizeOf = ({ files }: VmSources["sources"][number]): number =>
  files.map(({ size }) => size).reduce(sum, 0);

const isNamed = ({ within }: FoundFile): boolean => within.length === 0;

/** A file that cannot be read is told of in its place: the others say what they know. */
async function recogniseOrTell(file: FoundFile): Promise<Recognised> {
  if (isStream(file.path)) {
    throw new UnsupportedError("not a regular file", {
      where: { file: file.path },
      hint: `a pipe is read by the detectors: guestcore triage console ${shellWord(file.path)}`,
    });
  }
  try {
    return await recognise(file);
  } catch (error) {
    if (isNamed(file) || !isTold(error)) throw error;
    return unreadable(file, error);
  }
}
