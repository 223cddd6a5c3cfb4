import { shellWord } from "../../core/text.ts";
import { type Signs, seen } from "./signs.ts";
import type { MachineFacts, SourceDetected, SourceKind, VerdictName } from "./types.ts";

interface Case {
  readonly verdict: VerdictName;
  readonly signs: Signs;
  readonly machine: MachineFacts | undefined;
  /** The first source of a kind, as a word for a shell. */
  readonly first: (kind: SourceKind) => string | undefined;
}

/** What to do next, in this order; the reason stands behind `#`. */
const NEXT_RULES: readonly ((of: Case) => string | undefined)[] = [
  ({ signs, first }) =>
    command(
      signs.death.some(({ kind }) => kind === "pstore") ? first("pstore") : undefined,
      (store) => `guestcore triage pstore ${store} --dmesg -    # the log that the guest saved`,
    ),
  ({ first }) =>
    command(
      first("dump"),
      (dump) => `guestcore dmesg ${dump} --follow-crash    # the dumped kernel's own log`,
    ),
  ({ first }) =>
    command(
      first("qemu-core"),
      (core) => `guestcore extract ${core} -o guest.vmcore    # the guest out of QEMU's core`,
    ),
  ({ verdict, first }) =>
    command(
      verdict === "qemu-crash" ? first("qemu-core") : undefined,
      (core) => `gdb -c ${core}    # where QEMU crashed`,
    ),
  ({ signs, machine, first }) =>
    standsInPanic(signs) && first("dump") === undefined
      ? `virsh dump --memory-only ${shellWord(machine?.name ?? "VM")} guest.vmcore    # the guest still stands in its panic`
      : undefined,
  ({ verdict, first }) =>
    command(
      verdict === "host-fault" ? first("console") : undefined,
      () => "guestcore vmcs parse-dmesg HOST-DMESG    # what KVM printed of a VMCS it could not enter",
    ),
  ({ verdict, signs, machine }) =>
    ["guest-panic", "guest-reset"].includes(verdict) &&
    machine?.pvpanic === false &&
    !seen(signs, "panicEvent")
      ? "qemu-system-... -device pvpanic-pci -action panic=pause    # so that the host is told, and a dump can be taken"
      : undefined,
  ({ verdict, signs }) =>
    verdict === "guest-reset" && !signs.kinds.has("console")
      ? "qemu-system-... -serial file:serial.log    # a reset without a console cannot be explained"
      : undefined,
];

const command = (word: string | undefined, text: (word: string) => string): string | undefined =>
  word === undefined ? undefined : text(word);

const standsInPanic = (signs: Signs): boolean =>
  seen(signs, "panicEvent") &&
  seen(signs, "stop") &&
  !["resume", "guestReset", "guestShutdown", "hostStop", "qemuDeath", "gone"].some((name) =>
    seen(signs, name as "resume"),
  );

/** Commands that go on from a verdict. */
export function nextSteps(
  verdict: VerdictName,
  sources: readonly SourceDetected[],
  signs: Signs,
  machine: MachineFacts | undefined,
): string[] {
  const first = (kind: SourceKind): string | undefined => {
    const found = sources.find((source) => source.kind === kind);
    return found && shellWord(found.source);
  };
  return NEXT_RULES.flatMap((rule) => rule({ verdict, signs, machine, first }) ?? []);
}
