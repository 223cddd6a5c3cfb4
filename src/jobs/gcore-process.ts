import { UnavailableError, UsageError } from "../core/errors.ts";
import { plural } from "../core/text.ts";
import type { HostGuest } from "../guest/host-guest.ts";
import type { LinuxKernel } from "../kernel/open-kernel.ts";
import { listTasks, type Task, type TaskList, taskOfMm } from "../kernel/tasks.ts";
import { nameOf } from "../kvm/owner.ts";
import type { Block, HostDump } from "./host.ts";

/** Which process: the one that runs a guest, by the guest's number or name, or any by the PID of one of its threads. */
export interface ProcessChoice {
  readonly guest?: string | undefined;
  readonly pid?: number | undefined;
}

/** A process of a host, and the guest that it runs. */
export interface ChosenProcess {
  readonly kernel: LinuxKernel;
  readonly mm: bigint;
  /** The leader first; threads that have exited are left out. */
  readonly threads: readonly [Task, ...Task[]];
  /** Number of the process, which its leader has even when it exited. */
  readonly pid: number;
  /** In the order they were made; of a process that runs no VM there are none. */
  readonly guests: readonly HostGuest<Block>[];
}

/**
 * @throws UsageError when none is named, with what there is; UnavailableError when there is no such process, or the dump
 * does not show the host's processes
 */
export function chooseProcess(host: HostDump, { guest, pid }: ProcessChoice): ChosenProcess {
  const { kernel } = host;
  if (kernel === undefined) {
    throw new UnavailableError(`the host's processes are not to be found: ${host.kvmUnknown}`, {
      hint: "they need a Linux 5.2+ kernel with BTF; extract --guest takes a guest's memory by its second-level tables",
    });
  }
  if (guest === undefined && pid === undefined) {
    throw new UsageError("name a process with --guest or --pid", { hint: guestsHint(host) });
  }
  const tasks = listTasks(kernel.reader, kernel.types, kernel.symbols);
  const mm = guest === undefined ? mmOfPid(tasks, pid!) : mmOfGuest(host, guest);
  const leader = taskOfMm(tasks, mm);
  if (leader === undefined) {
    throw new UnavailableError(
      "the process is not among the host's tasks: it is exiting, or the dump lacks them",
      {
        hint: guestsHint(host),
      },
    );
  }
  const { tgid } = leader;
  const others = tasks.tasks.filter(
    (task) => task.tgid === tgid && task.address !== leader.address && task.mm !== undefined,
  );
  const [first = leader, ...rest] = leader.mm === undefined ? others : [leader, ...others];
  const guests = host.guests.filter(({ vm }) => vm?.mm === mm);
  return { kernel, mm, threads: [first, ...rest], pid: tgid, guests };
}

function mmOfPid({ tasks }: TaskList, pid: number): bigint {
  const task = tasks.find((candidate) => candidate.pid === pid);
  if (task === undefined) {
    throw new UnavailableError(`the host has no process ${pid}`, {
      hint: "guestcore guests lists those that run guests",
    });
  }
  const mm = task.mm ?? tasks.find(({ tgid, mm: own }) => tgid === task.tgid && own !== undefined)?.mm;
  if (mm !== undefined) return mm;
  throw new UnavailableError(`process ${pid} has no memory: it is a kernel thread, or has exited`, {
    hint: "guestcore kernel HOST --tasks lists the host's processes",
  });
}

function mmOfGuest(host: HostDump, wanted: string): bigint {
  const byNumber = host.guests.filter(({ id }) => String(id) === wanted);
  const found = byNumber.length > 0 ? byNumber : host.guests.filter((guest) => guestName(guest) === wanted);
  const [guest, ...others] = found;
  if (guest === undefined) {
    throw new UnavailableError(`this host has no guest ${wanted}`, { hint: guestsHint(host) });
  }
  if (others.length > 0) {
    throw new UnavailableError(`this host has ${found.length} guests of the name ${wanted}`, {
      hint: guestsHint(host),
    });
  }
  if (guest.vm?.mm !== undefined) return guest.vm.mm;
  throw new UnavailableError(`the process of guest ${guest.id} is not known`, {
    hint: `${host.kvmUnknown ?? "the host's KVM does not list it"}; --pid names a process itself`,
  });
}

/** As its VMM was told it. */
const guestName = ({ vm }: HostGuest<Block>): string | undefined =>
  vm?.owner === undefined ? undefined : nameOf(vm.owner);

/** What there is to be chosen from. */
function guestsHint({ guests }: HostDump): string {
  if (guests.length === 0) return "this host runs no guest; --pid takes any process of it";
  const listed = guests.map((guest) => {
    const name = guestName(guest);
    const pid = guest.vm?.owner?.task.tgid;
    const known = [...(name === undefined ? [] : [name]), ...(pid === undefined ? [] : [`pid ${pid}`])];
    return known.length === 0 ? `${guest.id}` : `${guest.id} (${known.join(", ")})`;
  });
  return `${plural(guests.length, "guest")}: ${listed.join("; ")}`;
}
