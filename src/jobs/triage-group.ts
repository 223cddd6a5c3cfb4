import { basename, dirname } from "node:path";
import type { FoundFile } from "../io/artefacts.ts";
import type { SourceKind } from "../triage/verdict/types.ts";
import { isStoreFile, type Recognised } from "./triage-artefact.ts";

/** An artefact: a file, or the files of a pstore that are read together. */
export interface Source extends Recognised {
  /** The file, or the directory of a store. */
  readonly path: string;
  readonly files: readonly FoundFile[];
}

/** The artefacts of one VM. */
export interface VmSources {
  readonly name: string;
  readonly sources: readonly Source[];
}

/** Endings by which tools and people tell the artefacts of one VM apart: NAME.console.log, NAME-serial0.log … */
const ENDING =
  /^(.{1,200})[._-](?:console|serial\d?|ttys?\d|qmp|qemu|cmdline|stdout|stderr|rtas(?:-area)?|pstore|dmesg|kmsg|monitor|vmcore|core|dump)(?:\.\w{1,12}){0,4}$/i;
/** Words that say what a file is, not whose. */
const NO_NAME = /^(?:core|vmcore|qemu|console|serial|dump|kernel|boot|host)$/i;
/** libvirt src/qemu/qemu_driver.c, getAutoDumpPath(): ID-NAME-YYYY-MM-DD-HH:MM:SS. */
const AUTO_DUMP = /^\d{1,9}-(.{1,200})-\d{4}-\d\d-\d\d-\d\d:\d\d:\d\d(?:\..{1,8})?$/;
/** /var/log/libvirt/qemu/NAME.log, rotated ones too. */
const LIBVIRT_LOG =
  /(?:^|\/)libvirt\/qemu\/(?:log\/)?([^/]{1,200}?)(?:-serial\d)?\.log(?:\.\d{1,3})?(?:\.gz|\.zst)?$/;
/** Kata and Firecracker name sandboxes by 64 hexadecimal digits or a UUID, EVE domains by a UUID. */
const SANDBOX =
  /^(?:[0-9a-f]{64}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?:\.\d{1,4}\.\d{1,4})?)$/;
/** Directories that hold a part of one VM's artefacts, not a VM. */
const INNER =
  /^(?:(?:sys-fs-|systemd-|virtio-)?pstore.*|efivars|dumps?|crash(?:es)?|cores?|logs?|qmp|console|serial|hypervisor|sandbox|state|\d{1,20}|\d{4}-\d\d-\d\d.*|vmcore-.*)$/i;

/** What a file tells of the VM it belongs to. */
interface Belonging {
  /** By what sort of name; a name of a directory gives way to all others. */
  readonly by: "name" | "directory" | "given";
  readonly name: string;
  /** The same for all files that belong together. */
  readonly key: string;
}

/** Puts the files of a pstore together: one source for each directory that has some. */
export function sourcesOf(files: readonly (readonly [FoundFile, Recognised])[]): Source[] {
  const stores = new Map<string, FoundFile[]>();
  const sources: (Source & { readonly files: FoundFile[] })[] = [];
  for (const [file, recognised] of files) {
    if (!isStoreFile(basename(file.path)) || recognised.kind !== "pstore") {
      sources.push({ ...recognised, path: file.path, files: [file] });
      continue;
    }
    const directory = dirname(file.path);
    const store = stores.get(directory);
    if (store !== undefined) store.push(file);
    else {
      const first = [file];
      stores.set(directory, first);
      sources.push({ ...recognised, path: directory, files: first });
    }
  }
  // systemd-pstore lays the text it put together beside the records of each crash.
  return sources.filter(
    ({ path, kind }) => !(kind !== "pstore" && basename(path) === "dmesg.txt" && stores.has(dirname(path))),
  );
}

/**
 * Sorts the sources by VM, as names and directories tell: by libvirt's names, by the name of a sandbox, by what
 * NAME.console.log and NAME.qmp.jsonl have in common, by directory. What bears no name goes to the one VM that does in
 * the same directory, where there is one only.
 * @param vm all belong to one VM of this name
 */
export function groupByVm(sources: readonly Source[], vm?: string): VmSources[] {
  if (vm !== undefined) return [{ name: vm, sources }];
  const belongings = sources.map((source) => [source, belongingOf(source)] as const);
  const hosts = new Hosts(belongings);
  const groups = new Map<string, { name: string; sources: Source[] }>();
  for (const [source, belonging] of belongings) {
    const { key, name } = belonging.by === "name" ? belonging : (hosts.of(belonging) ?? belonging);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { name, sources: [source] });
    else group.sources.push(source);
  }
  return merged([...groups.values()]);
}

/** The VMs with names of their own, by directory. */
class Hosts {
  readonly #inDirectory = new Map<string, Map<string, Belonging>>();
  readonly #all = new Map<string, Belonging>();

  constructor(belongings: readonly (readonly [Source, Belonging])[]) {
    for (const [{ kind, files }, belonging] of belongings) {
      if (belonging.by !== "name" || kind === "unknown") continue;
      const directory = directoryKey(files[0]!);
      const hosts = this.#inDirectory.get(directory) ?? new Map<string, Belonging>();
      this.#inDirectory.set(directory, hosts.set(belonging.key, belonging));
      this.#all.set(belonging.key, belonging);
    }
  }

  /** The only VM with a name where a nameless file lies; of files that were named one by one, anywhere. */
  of({ by, key }: Belonging): Belonging | undefined {
    const hosts = by === "given" ? this.#all : this.#inDirectory.get(key);
    return hosts?.size === 1 ? [...hosts.values()][0] : undefined;
  }
}

function belongingOf(source: Source): Belonging {
  const [file] = source.files;
  const { path } = source;
  const name = basename(path);
  const libvirt = LIBVIRT_LOG.exec(path)?.[1] ?? AUTO_DUMP.exec(name)?.[1];
  if (libvirt !== undefined) return { by: "name", name: libvirt, key: `libvirt ${libvirt}` };
  const sandbox = path.split("/").findLast((part) => SANDBOX.test(part));
  if (sandbox !== undefined) return { by: "name", name: sandbox, key: `sandbox ${sandbox}` };
  const prefix = source.files.length > 1 || isStoreFile(name) ? undefined : ENDING.exec(name)?.[1];
  if (prefix !== undefined && !NO_NAME.test(prefix))
    return { by: "name", name: prefix, key: `prefix ${dirname(path)}/${prefix}` };
  if (file!.within.length === 0) return { by: "given", name, key: "given" };
  const key = directoryKey(file!);
  return { by: "directory", name: basename(key) || key, key };
}

/** The directory of a VM: the file's own, or the nearest above it that is no part of one. */
function directoryKey({ path, root, within }: FoundFile): string {
  let directory = dirname(path);
  for (let depth = within.length - 1; depth > 0 && INNER.test(basename(directory)); depth--) {
    directory = dirname(directory);
  }
  return within.length === 0 ? dirname(root) : directory;
}

/** Files that nothing knows are told of with the VM whose name theirs begins with, or by themselves. */
function merged(
  groups: readonly { readonly name: string; readonly sources: readonly Source[] }[],
): VmSources[] {
  const isNothing = ({ sources }: VmSources) => sources.every(({ kind }) => kind === "unknown");
  const known = groups.filter((group) => !isNothing(group));
  const named = new Map(
    known.map(({ name, sources: [first] }, index) => [`${dirname(first!.path)}/${name}`, index]),
  );
  const adopted: Source[][] = known.map(() => []);
  const unknown: Source[] = [];
  for (const source of groups.filter(isNothing).flatMap(({ sources }) => sources)) {
    const index = prefixesOf(source.path)
      .map((prefix) => named.get(prefix))
      .find((found) => found !== undefined);
    (index === undefined ? unknown : adopted[index]!).push(source);
  }
  const all = known.map(({ name, sources }, index) => ({ name, sources: [...sources, ...adopted[index]!] }));
  return withUnknown(all, unknown);
}

/** `d/a.b.c` → `d/a`, `d/a.b`. */
const prefixesOf = (path: string): string[] =>
  [...basename(path).slice(0, 255).matchAll(/[._-]/g)].map(
    ({ index }) => `${dirname(path)}/${basename(path).slice(0, index)}`,
  );

function withUnknown(known: readonly VmSources[], unknown: readonly Source[]): VmSources[] {
  if (unknown.length === 0) return unique(known);
  const [only, ...others] = known;
  if (only !== undefined && others.length === 0) {
    return [{ name: only.name, sources: [...only.sources, ...unknown] }];
  }
  return [...unique(known), { name: "", sources: unknown }];
}

/** Two VMs of one name are told apart by their directories. */
function unique(groups: readonly VmSources[]): VmSources[] {
  const count = new Map<string, number>();
  for (const { name } of groups) count.set(name, (count.get(name) ?? 0) + 1);
  return groups.map((group) =>
    (count.get(group.name) ?? 0) < 2
      ? group
      : { ...group, name: `${dirname(group.sources[0]!.path)}/${group.name}` },
  );
}

/** The order in which the sources of a VM are told of. */
const ORDER: readonly SourceKind[] = [
  ...(["console", "qmp", "libvirt-log", "qemu-log", "pstore", "rtas", "dump", "qemu-core"] as const),
  ...(["cmdline", "unknown"] as const),
];

export const inOrder = (sources: readonly Source[]): Source[] =>
  sources.toSorted(
    (a, b) =>
      ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind) || (a.path < b.path ? -1 : a.path > b.path ? 1 : 0),
  );
