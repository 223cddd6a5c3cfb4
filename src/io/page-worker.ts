import { parentPort } from "node:worker_threads";
import { BatchBuffers, type PageJob, runPageJob } from "./page-job.ts";

/** What the thread that reads and writes tells one that packs and unpacks: of a new batch, or of work. */
export type ToWorker =
  | { readonly batch: number; readonly shared: SharedArrayBuffer }
  | { readonly batch: number; readonly job: PageJob; readonly count: number };

const batches = new Map<number, BatchBuffers>();

parentPort?.on("message", (message: ToWorker) => {
  if ("shared" in message) {
    batches.set(message.batch, new BatchBuffers(message.shared));
    return;
  }
  runPageJob(message.job, batches.get(message.batch)!, message.count);
  parentPort!.postMessage(message.batch);
});
