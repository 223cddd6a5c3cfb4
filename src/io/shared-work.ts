import { setImmediate } from "node:timers/promises";
import { parentPort, Worker } from "node:worker_threads";

/** What this thread does, and another may do in its place. */
export interface SharedJob<Request, Reply, Result> {
  /** What another thread is asked; undefined: none can do it. */
  readonly request: Request | undefined;
  readonly here: () => Promise<Result>;
  /** What a reply amounts to; undefined: it is done here after all. */
  readonly resultOf: (reply: Reply) => Result | undefined;
}

/** A job that was added, until its result is there. */
export class Task<Request, Reply, Result> {
  readonly #job: SharedJob<Request, Reply, Result>;
  readonly result: Promise<Result>;
  #settle: { resolve: (result: Result) => void; reject: (error: unknown) => void } | undefined;
  isDone = false;
  #isForHere = false;

  constructor(job: SharedJob<Request, Reply, Result>) {
    this.#job = job;
    this.result = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    // Whoever waits for it hears of its failure; until then it is no unhandled one.
    this.result.catch(() => {});
  }

  get request(): Request | undefined {
    return this.#isForHere ? undefined : this.#job.request;
  }

  async doHere(): Promise<void> {
    try {
      this.#settle!.resolve(await this.#job.here());
    } catch (error) {
      this.#settle!.reject(error);
    }
    this.isDone = true;
  }

  /** Whether the reply of a thread that was asked is its result; else it has to be done here. */
  takes(reply: Reply | undefined): boolean {
    const result = reply === undefined ? undefined : this.#job.resultOf(reply);
    this.#isForHere = result === undefined;
    if (result === undefined) return false;
    this.#settle!.resolve(result);
    this.isDone = true;
    return true;
  }
}

type AnyTask<Request, Reply> = Pick<Task<Request, Reply, unknown>, "request" | "doHere" | "takes">;

/** A thread takes most of a second before it is of use: what takes no longer is done without. Milliseconds. */
const BEFORE_HELP = 1000;
/** A thread that has another job in hand need not wait for the next; where few are left, each has its own. */
const PLENTY = 4;

/**
 * Jobs of one sort that this thread does in order, whenever it waits for one that is not done; when that takes long, others
 * help with those that nobody has begun.
 */
export class SharedWork<Request, Reply> {
  readonly #script: URL | undefined;
  readonly #limit: number;
  readonly #heeding: <T>(result: Promise<T>) => Promise<T>;
  /** Those that nobody has begun. */
  readonly #queue: AnyTask<Request, Reply>[] = [];
  /** Helpers, and what each has in hand, in order. */
  readonly #helpers = new Map<Worker, AnyTask<Request, Reply>[]>();
  #since: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #hasFailed = false;
  #wake: (() => void) | undefined;

  /**
   * @param script a module that calls `doJobs`; undefined: nobody helps
   * @param limit helpers at most
   * @param heeding waits for a result, and ends earlier when a signal says so
   */
  constructor(script: URL | undefined, limit: number, heeding: <T>(result: Promise<T>) => Promise<T>) {
    this.#script = script;
    this.#limit = limit;
    this.#heeding = heeding;
  }

  add<Result>(job: SharedJob<Request, Reply, Result>): Task<Request, Reply, Result> {
    if (this.#since === undefined) {
      this.#since = performance.now();
      // Within a long job too, whenever that lets others have a turn.
      this.#timer = setTimeout(() => this.#help(), BEFORE_HELP);
    }
    const task = new Task(job);
    this.#queue.push(task);
    this.#help();
    return task;
  }

  async wait<Result>(task: Task<Request, Reply, Result>): Promise<Result> {
    while (!task.isDone) {
      const next = this.#queue.shift();
      if (next === undefined) await this.#heeding(Promise.race([task.result, this.#returned()]));
      else await next.doHere();
      // Only between tasks of its own does this thread hear that a helper has done one.
      if (this.#helpers.size > 0) await setImmediate();
      this.#help();
    }
    return task.result;
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await Promise.all([...this.#helpers.keys()].map((worker) => worker.terminate()));
  }

  /** Until a helper hands something back, be it undone. */
  #returned(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #help(): void {
    if (this.#script === undefined || this.#hasFailed || this.#queue.length === 0) return;
    if (performance.now() - this.#since! < BEFORE_HELP) return;
    if (this.#helpers.size < this.#limit) this.#begin(this.#script);
    for (const inHand of [0, 1]) {
      for (const [worker, tasks] of this.#helpers) {
        if (tasks.length === inHand && (inHand === 0 || this.#queue.length >= PLENTY))
          this.#give(worker, tasks);
      }
    }
  }

  #give(worker: Worker, tasks: AnyTask<Request, Reply>[]): void {
    const at = this.#queue.findIndex(({ request }) => request !== undefined);
    if (at < 0) return;
    const [task] = this.#queue.splice(at, 1);
    tasks.push(task!);
    worker.postMessage(task!.request);
  }

  #begin(script: URL): void {
    const worker = begun(script);
    if (worker === undefined) {
      this.#hasFailed = true;
      return;
    }
    this.#helpers.set(worker, []);
    worker.on("message", (reply: Reply | undefined) => {
      const task = this.#helpers.get(worker)?.shift();
      if (task !== undefined && !task.takes(reply)) this.#queue.unshift(task);
      this.#help();
      this.#wake?.();
    });
    // It ends behind that.
    worker.on("error", () => {});
    worker.on("exit", () => {
      // What it had in hand is done here.
      this.#hasFailed = true;
      this.#queue.unshift(...(this.#helpers.get(worker) ?? []));
      this.#helpers.delete(worker);
      this.#wake?.();
    });
  }
}

/** A thread; undefined where the system has no room for one. */
function begun(script: URL): Worker | undefined {
  try {
    return new Worker(script);
  } catch {
    return undefined;
  }
}

/** In a helper: does what is asked for, one after the other; undefined is the answer where that fails. */
export function doJobs<Request, Reply>(job: (request: Request) => Promise<Reply>): void {
  let last = Promise.resolve();
  parentPort?.on("message", (request: Request) => {
    last = last
      .then(() => job(request))
      .then((reply) => parentPort!.postMessage(reply))
      .catch(() => parentPort!.postMessage(undefined));
  });
}
