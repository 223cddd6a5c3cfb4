import type { Message, QemuVersion } from "./message.ts";
import type { PanicInfo } from "./panic-info.ts";
import type { PortAccess } from "./port-trace.ts";
import type { RunState } from "./run-state.ts";

/** What a message or a line says. */
export type Said =
  | Message
  /** libvirt started QEMU. */
  | { readonly kind: "start"; readonly version: QemuVersion | undefined; readonly libvirt: string }
  /** libvirt saw QEMU end: virDomainShutoffReason. */
  | { readonly kind: "shutoff"; readonly reason: string }
  /** `virsh event`: `Crashed`, `Panicked`. */
  | { readonly kind: "lifecycle"; readonly event: string; readonly detail: string }
  /** A panic told by a line: libvirt's domain log, QEMU's standard error or -d guest_errors. */
  | {
      readonly kind: "panic";
      readonly what: "panicked" | "crash-loaded";
      readonly info: PanicInfo | undefined;
      readonly message: string | undefined;
    }
  | { readonly kind: "signal"; readonly number: number; readonly by: string | undefined }
  /** QEMU ended itself, or the host's kernel ended it. */
  | { readonly kind: "abort"; readonly what: string }
  | { readonly kind: "killed"; readonly what: string }
  /** KVM could not go on. */
  | { readonly kind: "internal-error"; readonly what: string }
  /** A memory error of the host was passed on. */
  | { readonly kind: "memory-error"; readonly what: string }
  /** QEMU could not start or take a migration. */
  | {
      readonly kind: "start-failed";
      readonly what: string;
      /** An error of QEMU's start: of none when the machine is heard of later, or was before. */
      readonly early?: boolean;
    }
  /** QEMU took another accelerator than the first that it was told of. */
  | { readonly kind: "fell-back" }
  /** The human monitor's `info status`. */
  | { readonly kind: "status"; readonly state: RunState }
  | { readonly kind: "version"; readonly version: QemuVersion }
  | { readonly kind: "port"; readonly access: PortAccess };

/** Where and when something was said. */
export interface Fact {
  /** Line, from 1. */
  readonly line: number;
  /** As the input has it, at most 1000 characters. */
  readonly text: string;
  /** Unix time in ms. */
  readonly wall: number | undefined;
  /** Seconds of a transcript's own clock. */
  readonly t: number | undefined;
}
