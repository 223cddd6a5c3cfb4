import { parentPort, Worker } from "node:worker_threads";

interface Waiting<Request, Reply> {
  readonly request: Request;
  readonly resolve: (reply: Reply | undefined) => void;
  readonly reject: (error: Error) => void;
}

/** Threads that do jobs of one sort, each one at a time; they are begun as there is work for them. */
export class JobThreads<Request, Reply> {
  readonly #script: URL;
  readonly #limit: number;
  readonly #workers: Worker[] = [];
  readonly #idle: Worker[] = [];
  readonly #queue: Waiting<Request, Reply>[] = [];
  readonly #running = new Map<Worker, Waiting<Request, Reply>>();
  #failure: Error | undefined;

  /** @param script a module that calls `doJobs` */
  constructor(script: URL, limit: number) {
    this.#script = script;
    this.#limit = limit;
  }

  /** @returns undefined when the job threw: whoever does it again hears of what */
  run(request: Request): Promise<Reply | undefined> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#queue.push({ request, resolve, reject });
      if (this.#idle.length === 0 && this.#workers.length < this.#limit) this.#idle.push(this.#begin());
      this.#advance();
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #begin(): Worker {
    const worker = new Worker(this.#script);
    worker.on("message", (reply: Reply | undefined) => {
      const done = this.#running.get(worker);
      this.#running.delete(worker);
      this.#idle.push(worker);
      done?.resolve(reply);
      this.#advance();
    });
    worker.on("error", (error) => this.#fail(error));
    this.#workers.push(worker);
    return worker;
  }

  #advance(): void {
    while (this.#idle.length > 0 && this.#queue.length > 0) {
      const worker = this.#idle.pop()!;
      const job = this.#queue.shift()!;
      this.#running.set(worker, job);
      worker.postMessage(job.request);
    }
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of [...this.#running.values(), ...this.#queue]) reject(error);
    this.#running.clear();
    this.#queue.length = 0;
  }
}

/** In a thread: does what is asked for. */
export function doJobs<Request, Reply>(job: (request: Request) => Promise<Reply>): void {
  parentPort?.on("message", (request: Request) => {
    job(request)
      .then((reply) => parentPort!.postMessage(reply))
      .catch(() => parentPort!.postMessage(undefined));
  });
}
