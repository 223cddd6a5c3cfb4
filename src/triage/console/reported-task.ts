import { decoded } from "./decoded.ts";

/** kernel: dump_stack_print_info() of lib/dump_stack.c; `UID:` since 6.12. */
const TASK =
  /^CPU: (\d{1,5})(?: UID: \d{1,10})? PID: (\d{1,10}) Comm: (.{1,40}?) (?:Kdump: loaded )?(Not tainted|Tainted: [\w ()=,[\]+-]{1,80}?) +(\d\S{0,80})/;
const OLD_TASK = /^Pid: (\d{1,10}), comm: (.{1,40}?) (Not tainted|Tainted: [\w ]{1,40}?) +\(?(\d\S{0,80})/;
/** Who hangs, in the headline: the task lines below are of whoever found out. */
const HUNG = /^INFO: task (.{1,64}?):(\d{1,10}) |CPU#(\d{1,5}) stuck for \d{1,9}s! \[(.{1,40}?):(\d{1,10})\]/;

/** The task that an incident was in, and its kernel. */
export interface ReportedTask {
  readonly cpu?: number;
  readonly pid?: number;
  readonly comm?: string;
  readonly taint?: string;
  readonly release?: string;
}

/** Whether a line tells of a task. */
export const isTaskLine = (text: string): boolean => TASK.test(text);

/** Who hangs by a headline. */
export function hungTask(headline: string): ReportedTask {
  const hung = HUNG.exec(headline);
  if (hung === null) return {};
  const [, comm = hung[4], pid = hung[5], cpu] = hung;
  return { comm: decoded(comm!), pid: Number(pid), ...(cpu === undefined ? {} : { cpu: Number(cpu) }) };
}

/** The task that a line tells of; undefined when it tells of none. */
export function taskOf(text: string): ReportedTask | undefined {
  const task = TASK.exec(text);
  if (task !== null) {
    const [, cpu, pid, comm, taint, release] = task;
    return { cpu: Number(cpu), pid: Number(pid), comm: decoded(comm!), taint: taint!, release: release! };
  }
  const old = OLD_TASK.exec(text);
  if (old === null) return undefined;
  const [, pid, comm, taint, release] = old;
  return { pid: Number(pid), comm: decoded(comm!), taint: taint!, release: release! };
}
