import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { BatchBuffers, type PageJob, pagesInBatch, runPageJob } from "./page-job.ts";
import type { ToWorker } from "./page-worker.ts";

/** Notes of one batch: there may be many without a page. */
const MAX_NOTES = 1024;
/** More do not help, for one thread reads and writes; each takes some 15 MiB. */
const MAX_WORKERS = 4;

/** Pages of a batch while it is filled and when it comes out. */
export interface Batch<Note> {
  readonly buffers: BatchBuffers;
  /** Pages in it. */
  count: number;
  /** What whoever fills it wants to know of it afterwards, in order. */
  readonly notes: Note[];
}

/**
 * Threads that pack and unpack pages. Without any, as where there is one processor or the program runs from its
 * TypeScript sources, the work is done at once by whoever asks for it.
 */
export class PageThreads {
  readonly #workers: Worker[] = [];
  /** Batches in work, by number. */
  readonly #waiting = new Map<number, Waiting>();
  #batches = 0;
  #next = 0;
  #failure: Error | undefined;

  /** @param wanted threads; by default as many as the machine has processors */
  constructor(wanted = availableParallelism()) {
    const own = import.meta.url;
    if (wanted < 2 || !own.endsWith(".js")) return;
    for (let i = 0; i < Math.min(wanted, MAX_WORKERS); i++) {
      const worker = new Worker(new URL("./page-worker.js", own));
      worker.on("message", (batch: number) => this.#settle(batch));
      worker.on("error", (error) => this.#fail(error));
      this.#workers.push(worker);
    }
  }

  get count(): number {
    return this.#workers.length;
  }

  newBatch(): { readonly number: number; readonly buffers: BatchBuffers } {
    const buffers = new BatchBuffers();
    const number = this.#batches++;
    for (const worker of this.#workers) post(worker, { batch: number, shared: buffers.shared });
    return { number, buffers };
  }

  run(job: PageJob, number: number, buffers: BatchBuffers, count: number): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#workers.length === 0) {
      runPageJob(job, buffers, count);
      return Promise.resolve();
    }
    const worker = this.#workers[this.#next++ % this.#workers.length]!;
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
      post(worker, { batch: number, job, count });
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #settle(batch: number): void {
    const waiting = this.#waiting.get(batch);
    this.#waiting.delete(batch);
    waiting?.resolve();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

interface Waiting {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

const post = (worker: Worker, message: ToWorker): void => worker.postMessage(message);

/** Batches on their way through the threads; they come out in the order they went in. */
export class PageBatches<Note> {
  readonly #threads: PageThreads;
  readonly #job: PageJob;
  readonly #done: (batch: Batch<Note>) => void | Promise<void>;
  readonly #free: Slot<Note>[] = [];
  readonly #flying: Flight<Note>[] = [];
  readonly #room: number;
  #open: Slot<Note>;

  constructor(threads: PageThreads, job: PageJob, done: (batch: Batch<Note>) => void | Promise<void>) {
    this.#threads = threads;
    this.#job = job;
    this.#done = done;
    this.#room = pagesInBatch(job.pageSize);
    // Two a thread, that none waits; one more is being filled.
    for (let i = 0; i < 2 * threads.count + 1; i++) {
      this.#free.push({ ...threads.newBatch(), count: 0, notes: [] });
    }
    this.#open = this.#free.pop()!;
  }

  /** The batch that is being filled; it has room for a page. */
  get open(): Batch<Note> {
    return this.#open;
  }

  /** Sends the batch off when it is full, and lets what is done come out. */
  async advance(): Promise<void> {
    if (this.#open.count >= this.#room || this.#open.notes.length >= MAX_NOTES) await this.#submit();
  }

  /** Sends what there is off, and waits until everything has come out. */
  async drain(): Promise<void> {
    if (this.#open.count > 0 || this.#open.notes.length > 0) await this.#submit();
    while (this.#flying.length > 0) await this.#land();
  }

  async #submit(): Promise<void> {
    const slot = this.#open;
    const finished = this.#threads.run(this.#job, slot.number, slot.buffers, slot.count);
    // A failure is told when the batch's turn comes.
    finished.catch(() => {});
    this.#flying.push({ slot, finished });
    if (this.#free.length === 0) await this.#land();
    this.#open = this.#free.pop()!;
  }

  async #land(): Promise<void> {
    const { slot, finished } = this.#flying.shift()!;
    await finished;
    await this.#done(slot);
    slot.count = 0;
    slot.notes.length = 0;
    this.#free.push(slot);
  }
}

interface Slot<Note> extends Batch<Note> {
  readonly number: number;
}

interface Flight<Note> {
  readonly slot: Slot<Note>;
  readonly finished: Promise<void>;
}
