import type { JobContext } from "../core/job.ts";
import type { Warning } from "../core/warnings.ts";
import type { FoundFile } from "../io/artefacts.ts";
import { doJobs } from "../io/shared-work.ts";
import { type Recognised, recognise } from "./triage-artefact.ts";
import type { VmSources } from "./triage-group.ts";
import { READERS } from "./triage-readers.ts";
import { type JudgedVm, triageVm } from "./triage-vm.ts";

/** What a thread is asked: what files are, or what became of a VM. */
export type TriageRequest =
  | { readonly files: readonly FoundFile[] }
  | {
      readonly vm: VmSources;
      readonly before: readonly Warning[];
      readonly temporaryDirectories: readonly string[];
    };

/** Of each file what it is, undefined where that could not be told; or of a VM all but the errors of its sources. */
export interface TriageReply {
  readonly recognised?: readonly (Recognised | undefined)[];
  readonly judged?: Pick<JudgedVm, "result" | "isRead"> & { readonly hasFailure: boolean };
}

/** Progress and warnings are told, and signals heard, by the thread that asks. */
const quiet = (temporaryDirectories: readonly string[]): JobContext => ({
  progress: { start: () => {}, update: () => {}, finish: () => {} },
  warn: () => {},
  checkpoint: () => Promise.resolve(),
  temporaryDirectories,
});

doJobs(async (request: TriageRequest): Promise<TriageReply> => {
  if ("files" in request) {
    const recognised: (Recognised | undefined)[] = [];
    for (const file of request.files) recognised.push(await recognise(file).catch(() => undefined));
    return { recognised };
  }
  const { vm, before, temporaryDirectories } = request;
  const { result, isRead, failure } = await triageVm(vm, READERS, before, quiet(temporaryDirectories));
  return { judged: { result, isRead, hasFailure: !isRead && failure !== undefined } };
});
