import { UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { shellWord } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import type { FoundFile } from "../io/artefacts.ts";
import { JobThreads } from "../io/job-threads.ts";
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

/** Recognises files and judges VMs, here or in threads; the results are the same. */
export class TriageCrew {
  readonly #readers: Readonly<Partial<Record<SourceKind, Reader>>>;
  readonly #context: JobContext;
  readonly #threads: JobThreads<TriageRequest, TriageReply> | undefined;
  /** Bytes of files of VMs that are done. */
  #done = 0;
  /** VMs that are begun before the first of them is done. */
  readonly ahead: number;

  /** Threads run the compiled program: its TypeScript sources do all here. */
  constructor({ jobs, readers }: CrewOptions, files: number, context: JobContext) {
    const own = import.meta.url;
    const count = Math.min(jobs, files);
    const isThreaded = count > 1 && readers === undefined && own.endsWith(".js");
    this.#threads = isThreaded ? new JobThreads(new URL("./triage-worker.js", own), count) : undefined;
    this.#readers = readers ?? READERS;
    this.#context = context;
    this.ahead = isThreaded ? count * AHEAD : jobs;
  }

  /**
   * What each file is, in order.
   * @throws IoError, UnsupportedError of what was named and cannot be looked at
   */
  async *recognise(files: readonly FoundFile[]): AsyncGenerator<readonly [FoundFile, Recognised]> {
    const batches = Array.from({ length: Math.ceil(files.length / BATCH) }, (_, index) =>
      files.slice(index * BATCH, (index + 1) * BATCH),
    );
    const replies = batches.map((batch) => this.#ask(batch.some(isNamed) ? undefined : { files: batch }));
    for (const [index, batch] of batches.entries()) {
      const reply = await this.#heeding(replies[index]!);
      for (const [at, file] of batch.entries()) {
        yield [file, reply?.recognised?.[at] ?? (await recogniseOrTell(file))];
        await this.#context.checkpoint();
      }
    }
  }

  /** How far threads are is told by the files of the VMs that are done; what is done here tells it itself. */
  begin(vms: readonly VmSources[]): void {
    if (this.#threads === undefined) return;
    this.#context.progress.start(vms.flatMap(({ sources }) => sources.map(sizeOf)).reduce(sum, 0), "reading");
  }

  /** Begins to judge a VM; its warnings are in the result, for when its turn comes. */
  async judge(vm: VmSources, before: readonly Warning[]): Promise<JudgedVm> {
    const { temporaryDirectories } = this.#context;
    // Errors do not go from thread to thread: what has some is done here.
    const isPlain = vm.sources.every(({ failure }) => failure === undefined);
    const reply = await this.#ask(isPlain ? { vm, before, temporaryDirectories } : undefined);
    const judged = reply?.judged;
    if (judged !== undefined && !judged.hasFailure) return { ...judged, failure: undefined };
    return triageVm(vm, this.#readers, before, { ...this.#context, warn: () => {} });
  }

  /** Waits for a VM, and tells its warnings. */
  async told(judging: Promise<JudgedVm>): Promise<JudgedVm> {
    const judged = await this.#heeding(judging);
    judged.result.warnings.forEach(this.#context.warn);
    if (this.#threads !== undefined) {
      this.#done += judged.result.sources.map(({ size }) => size).reduce(sum, 0);
      this.#context.progress.update(this.#done);
    }
    return judged;
  }

  async close(): Promise<void> {
    if (this.#threads === undefined) return;
    this.#context.progress.finish();
    await this.#threads.close();
  }

  /** Undefined where there are no threads, or it is not for them. */
  #ask(request: TriageRequest | undefined): Promise<TriageReply | undefined> {
    if (this.#threads === undefined || request === undefined) return Promise.resolve(undefined);
    const reply = this.#threads.run(request);
    // Whoever waits for it hears of its failure; until then it is no unhandled one.
    reply.catch(() => {});
    return reply;
  }

  /** Waits for threads, and hears signals meanwhile. */
  async #heeding<T>(result: Promise<T>): Promise<T> {
    if (this.#threads === undefined) return result;
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
