import { basename, dirname } from "node:path";
import type { FoundFile } from "../io/artefacts.ts";
import type { SourceKind } from "../triage/verdict/types.ts";
import { isStoreFile, type Recognised } from "./triage-artefact.ts";
import { type Belonging, belongingOf, directoryKey } from "./triage-belonging.ts";
import { withRotated } from "./triage-rotated.ts";
import { withOneStore } from "./triage-stores.ts";

/** An artefact: a file, or the files of a pstore that are read together. */
export interface Source extends Recognised {
  /** The file, or the directory of a store. */
  readonly path: string;
  readonly files: readonly FoundFile[];
  /** What it is a copy of, which is read in its place. */
  readonly copyOf?: string;
}

/** The artefacts of one VM. */
export interface VmSources {
  readonly name: string;
  readonly sources: readonly Source[];
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
  return sources.filter(({ path }) => !(basename(path) === "dmesg.txt" && stores.has(dirname(path))));
}

/**
 * Sorts the sources by VM, as names and directories tell: by libvirt's names, by the name of a sandbox, by what
 * NAME.console.log and NAME.qmp.jsonl have in common, by directory. What bears no name goes to the one VM that does in
 * the same directory, where there is one only.
 * @param vm all belong to one VM of this name
 */
export function groupByVm(sources: readonly Source[], vm?: string): VmSources[] {
  if (vm !== undefined) return [{ name: vm, sources: withRotated(withOneStore(ofOne(sources, vm))) }];
  const belongings = ofDomains(withStems(sources.map((source) => [source, belongingOf(source)] as const)));
  const hosts = new Hosts(belongings);
  const groups = new Map<string, { name: string; sources: Source[] }>();
  for (const [source, belonging] of belongings) {
    const { key, name } = belonging.by === "name" ? belonging : (hosts.of(belonging) ?? belonging);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { name, sources: [source] });
    else group.sources.push(source);
  }
  return merged([...groups.values()]).map(({ name, sources }) => ({
    name,
    sources: withRotated(withOneStore(sources)),
  }));
}

/** Of a log of several domains what it tells of that one, where it does. */
function ofOne(sources: readonly Source[], vm: string): readonly Source[] {
  const told = new Set(sources.flatMap(({ path, domain }) => (domain === vm ? [path] : [])));
  return sources.filter(({ path, domain }) => domain === undefined || domain === vm || !told.has(path));
}

type Belongings = readonly (readonly [Source, Belonging])[];

/**
 * A directory with several files of one kind that are called after something, `db.log` and `web.log`, has a VM for each.
 * Otherwise only a file whose stem is the name of another's VM is of that one.
 */
function withStems(belongings: Belongings): Belongings {
  const names = new Map<string, Set<string>>();
  const taken = new Set<string>();
  for (const [{ kind, files }, { by, key, stem }] of belongings) {
    if (stem === undefined || !TELLERS.has(kind)) continue;
    const place = `${kind} ${directoryKey(files[0]!, kind)}`;
    names.set(place, (names.get(place) ?? new Set()).add(stem.key));
    if (by === "name") taken.add(key);
  }
  const split = new Set(
    belongings.flatMap(([{ kind, files }, { stem }]) => {
      const directory = directoryKey(files[0]!, kind);
      const isOne = stem !== undefined && (names.get(`${kind} ${directory}`)?.size ?? 0) > 1;
      return isOne && TELLERS.has(kind) ? [stem.key] : [];
    }),
  );
  return belongings.map(([source, belonging]) => {
    const { by, stem } = belonging;
    const isOwn = by === "directory" && stem !== undefined && (taken.has(stem.key) || split.has(stem.key));
    return [source, isOwn ? { by: "name", name: stem.name, key: stem.key, stem } : belonging];
  });
}

/** What a log tells of a domain goes to the VM of that name, wherever there is just one. */
function ofDomains(belongings: Belongings): Belongings {
  const keys = new Map<string, Set<string>>();
  for (const [{ domain }, { name, key }] of belongings) {
    if (domain === undefined) keys.set(name, (keys.get(name) ?? new Set()).add(key));
  }
  return belongings.map(([source, belonging]) => {
    const [key, ...others] = keys.get(source.domain ?? "") ?? [];
    const isOne = source.domain !== undefined && key !== undefined && others.length === 0;
    return [source, isOne ? { ...belonging, key } : belonging];
  });
}

/** Kinds of which a VM has one, or few that are called alike. */
const TELLERS: ReadonlySet<SourceKind> = new Set(["console", "qmp", "qemu-log", "libvirt-log"]);

/** The VMs with names of their own, by directory. */
class Hosts {
  readonly #inDirectory = new Map<string, Map<string, Belonging>>();
  readonly #all = new Map<string, Belonging>();

  constructor(belongings: Belongings) {
    for (const [{ kind, files }, belonging] of belongings) {
      if (belonging.by !== "name" || kind === "unknown") continue;
      const directory = directoryKey(files[0]!, kind);
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

/** Files that nothing knows are told of with the VM whose name theirs begins with, or by themselves. */
function merged(
  groups: readonly { readonly name: string; readonly sources: readonly Source[] }[],
): VmSources[] {
  const isNothing = ({ sources }: VmSources) =>
    sources.every(({ kind, failure }) => kind === "unknown" && failure === undefined);
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

/** What files are called together that are of no VM. */
const NO_VM = "files of no VM";

function withUnknown(known: readonly VmSources[], unknown: readonly Source[]): VmSources[] {
  if (unknown.length === 0) return unique(known);
  const [only, ...others] = known;
  if (only !== undefined && others.length === 0) {
    return [{ name: only.name, sources: [...only.sources, ...unknown] }];
  }
  return [...unique(known), { name: NO_VM, sources: unknown }];
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
