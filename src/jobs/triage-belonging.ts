import { basename, dirname, resolve } from "node:path";
import type { FoundFile } from "../io/artefacts.ts";
import type { SourceKind } from "../triage/verdict/types.ts";
import { isStoreFile } from "./triage-artefact.ts";

/** Endings by which tools and people tell the artefacts of one VM apart: NAME.console.log, NAME-serial0.log … */
const ENDING =
  /^(.{1,200})[._-](?:console|serial\d?|ttys?\d|qmp|qemu|cmdline|stdout|stderr|rtas(?:-area)?|pstore|monitor|vmcore|core|dump)(?:\.\w{1,12}){0,4}$/i;
/** The same by a dot alone: `build-dmesg.log` is what it is called, not what a VM is. */
const DOTTED_ENDING = /^(.{1,200})\.(?:dmesg|kmsg|boot)(?:\.\w{1,12}){0,4}$/i;
/** What a file is called without what tells its form: `web` of web.log.1.gz. */
const STEM = /^(.{1,200}?)(?:\.(?:log|txt|out|err|jsonl?|ndjson|raw|cap|typescript|gz|zst|\d{1,3})){1,5}$/i;
/** Stems that say what a file is: they are the directory's. */
const GENERIC =
  /^(?:guest|vm|qemu|kvm|kernel|boot|firmware|host|system|domain|libvirt|machine|test|run|(?:(?:guest|vm|qemu|kvm|kernel|boot|firmware|host|system|domain|libvirt)[._-]?)?(?:console|serial|ttys|ttyama|hvc|dmesg|kmsg|kern|qmp|hmp|monitor|events?|qemu|kernel|boot|output|out|std(?:out|err|io)|logs?|messages|syslog|trace|firmware|debug|screenlog|screen|typescript|cmdline|results?|journal)(?:[._-]?\d{1,4})?)$/i;
/** Words that say what a file is, not whose. */
const NO_NAME = /^(?:core|vmcore|qemu|console|serial|dump|kernel|boot|host|guest|vm|domain|firmware|kvm)$/i;
/** libvirt src/qemu/qemu_driver.c, getAutoDumpPath(): ID-NAME-YYYY-MM-DD-HH:MM:SS. */
const AUTO_DUMP = /^\d{1,9}-(.{1,200})-\d{4}-\d\d-\d\d-\d\d:\d\d:\d\d(?:\..{1,8})?$/;
/** /var/log/libvirt/qemu/NAME.log, rotated ones too. */
const LIBVIRT_LOG =
  /(?:^|\/)libvirt\/qemu\/(?:log\/)?([^/]{1,200}?)(?:-serial\d)?\.log(?:\.\d{1,3})?(?:\.gz|\.zst)?$/;
/**
 * Kubernetes' /var/log/pods/NAMESPACE_POD_UID/CONTAINER/N.log and /var/log/containers/POD_NAMESPACE_CONTAINER-ID.log; KubeVirt calls
 * the pod of a VM virt-launcher-NAME-SUFFIX.
 */
const LAUNCHER = /(?:^|[/_])virt-launcher-([a-z0-9](?:[a-z0-9.-]{0,200}[a-z0-9])?)-[a-z0-9]{5}(?=[/_.]|$)/;
/** Proxmox VE's log of a task, /var/log/pve/tasks/X/UPID:NODE:PID:START:TIME:TYPE:VMID:USER: (PVE::Tools::upid_encode()). */
const PROXMOX_TASK = /(?:^|\/)UPID:[^:/]{1,64}(?::[0-9A-F]{8,16}){3}:(?:qm|vz)[a-z]{1,20}:(\d{1,10}):/;
/** Kata and Firecracker name sandboxes by 64 hexadecimal digits or a UUID, EVE domains by a UUID. */
const SANDBOX =
  /^(?:[0-9a-f]{64}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?:\.\d{1,4}\.\d{1,4})?)$/;
/** Directories that hold a part of one VM's artefacts, not a VM. */
const INNER =
  /^(?:(?:sys-fs-|systemd-|virtio-)?pstore|efivars|dumps?|crash(?:es)?|cores?|logs?|qmp|console|serial|hypervisor|sandbox|state|\d{1,20}|\d{4}-\d\d-\d\d.*|vmcore-.*)$/i;
/** The same where what is in them is a store's: a name alone does not make one. */
const INNER_STORE = /^(?:(?:sys-fs-|systemd-|virtio-)?pstore.*)$/i;

/** logrotate's dateext: `web.log-20261120.gz`. */
const DATE = /(?<=\.(?:log|txt|out))(?:[.-]\d{4}-?\d\d-?\d\d(?:[T-]?\d{1,10})?|\.old)(?=(?:\.gz|\.zst)?$)/;

/** What a file tells of the VM it belongs to. */
export interface Belonging {
  /** By what sort of name; a name of a directory gives way to all others. */
  readonly by: "name" | "directory" | "given";
  readonly name: string;
  /** The same for all files that belong together. */
  readonly key: string;
  /** The VM that it would be of by its own name, where that says whose it may be. */
  readonly stem?: Omit<Belonging, "by" | "stem"> | undefined;
}

/** What is known of an artefact here. */
interface Belonger {
  readonly path: string;
  readonly kind: SourceKind;
  readonly files: readonly FoundFile[];
  readonly domain?: string;
}

export function belongingOf({ path: whole, kind, files, domain }: Belonger): Belonging {
  const [file] = files;
  const path = whole.replace(DATE, "");
  if (domain !== undefined) return { by: "name", name: domain, key: `libvirt ${domain}` };
  const name = basename(path);
  const libvirt = LIBVIRT_LOG.exec(path)?.[1] ?? AUTO_DUMP.exec(name)?.[1];
  if (libvirt !== undefined) return { by: "name", name: libvirt, key: `libvirt ${libvirt}` };
  const launched = LAUNCHER.exec(path)?.[1];
  if (launched !== undefined) return { by: "name", name: launched, key: `launcher ${launched}` };
  const task = PROXMOX_TASK.exec(path)?.[1];
  if (task !== undefined) return { by: "name", name: task, key: `proxmox ${task}` };
  const sandbox = path.split("/").findLast((part) => SANDBOX.test(part));
  if (sandbox !== undefined) return { by: "name", name: sandbox, key: `sandbox ${sandbox}` };
  const isStore = files.length > 1 || isStoreFile(name);
  const prefix = isStore ? undefined : (ENDING.exec(name)?.[1] ?? DOTTED_ENDING.exec(name)?.[1]);
  if (prefix !== undefined && !NO_NAME.test(prefix)) {
    const own = { name: prefix, key: prefixKey(path, prefix) };
    return { by: "name", ...own, stem: own };
  }
  const found = isStore || prefix !== undefined ? undefined : STEM.exec(name)?.[1];
  const stem =
    found === undefined || GENERIC.test(found) ? undefined : { name: found, key: prefixKey(path, found) };
  if (file!.within.length === 0) return { by: "given", name, key: "given" };
  const key = directoryKey(file!, kind);
  return { by: "directory", name: basename(resolve(key)) || resolve(key), key, stem };
}

const prefixKey = (path: string, prefix: string): string => `prefix ${dirname(path)}/${prefix}`;

/** The directory of a VM: the file's own, or the nearest above it that is no part of one. */
export function directoryKey({ path, root, within }: FoundFile, kind: SourceKind): string {
  const isInner = (name: string) => INNER.test(name) || (kind === "pstore" && INNER_STORE.test(name));
  let directory = dirname(path);
  for (let depth = within.length - 1; depth > 0 && isInner(basename(directory)); depth--) {
    directory = dirname(directory);
  }
  return within.length === 0 ? dirname(root) : directory;
}
