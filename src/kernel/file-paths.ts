import { latin1 } from "../core/bytes.ts";
import type { Kernel } from "./kernel.ts";
import { offsetOf } from "./types.ts";

/** Components and mounts of one path: PATH_MAX is 4096 bytes, a component takes two of them. */
const MAX_STEPS = 2048;
/** Bytes of a path, and NAME_MAX of one component (include/uapi/linux/limits.h). */
const PATH_MAX = 4096;
const NAME_MAX = 255;

/** Offsets by which a path is walked up; all of them are needed. */
interface PathLayout {
  readonly fileDentry: bigint;
  readonly fileMount: bigint;
  readonly parent: bigint;
  readonly name: bigint;
  readonly length: bigint;
  /** Of struct vfsmount in struct mount. */
  readonly inMount: bigint;
  readonly root: bigint;
  readonly mountParent: bigint;
  readonly mountpoint: bigint;
  /** These change a path's ending only. */
  readonly operations: bigint | undefined;
  readonly dname: bigint | undefined;
  readonly hashed: bigint | undefined;
}

/** Paths of open files, as /proc/PID/maps has them (fs/d_path.c), from the root of their mount namespace. */
export class FilePaths {
  readonly #kernel: Kernel;
  readonly #layout: PathLayout | undefined;
  /** Of the files asked for: a file is mapped several times. */
  readonly #known = new Map<bigint, string | undefined>();

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    this.#layout = layoutOf(kernel);
  }

  /**
   * @param file address of a struct file
   * @returns its path, a character a byte (Latin-1); undefined where the dump does not tell
   */
  pathOf(file: bigint): string | undefined {
    if (this.#known.has(file)) return this.#known.get(file);
    const path = this.#layout && this.#walk(this.#layout, file);
    this.#known.set(file, path);
    return path;
  }

  #walk(layout: PathLayout, file: bigint): string | undefined {
    const { reader } = this.#kernel;
    const dentry = reader.u64(file + layout.fileDentry);
    const mount = reader.u64(file + layout.fileMount);
    if (!dentry || !mount) return undefined;
    const root = reader.u64(mount + layout.root);
    const special = dentry === root ? undefined : this.#specialName(layout, dentry);
    if (special !== undefined) return special;
    const path = this.#pathUp(layout, dentry, mount - layout.inMount);
    return path && `${path}${this.#isDeleted(layout, dentry) ? " (deleted)" : ""}`;
  }

  /** Collects the components from a dentry up, through mounts, to where a mount is its own parent. */
  #pathUp(layout: PathLayout, first: bigint, firstMount: bigint): string | undefined {
    const { reader } = this.#kernel;
    let path = "";
    let dentry = first;
    let mount = firstMount;
    for (let step = 0; step < MAX_STEPS && path.length < PATH_MAX; step++) {
      if (dentry === reader.u64(mount + layout.inMount + layout.root)) {
        const above = this.#mountAbove(layout, mount);
        if (above === undefined) return undefined;
        if (above.mount === mount) return path || "/";
        ({ dentry, mount } = above);
        continue;
      }
      const parent = reader.u64(dentry + layout.parent);
      const name = this.#nameOf(layout, dentry);
      if (!parent || name === undefined) return undefined;
      // A tree that is mounted nowhere: what is known of it is below its own root.
      if (parent === dentry) return path || name;
      path = `/${name}${path}`;
      dentry = parent;
    }
    return undefined;
  }

  /** What a mount lies on: itself at the top. */
  #mountAbove(layout: PathLayout, mount: bigint): { mount: bigint; dentry: bigint } | undefined {
    const { reader } = this.#kernel;
    const above = reader.u64(mount + layout.mountParent);
    const dentry = reader.u64(mount + layout.mountpoint);
    return above && dentry ? { mount: above, dentry } : undefined;
  }

  #nameOf(layout: PathLayout, dentry: bigint): string | undefined {
    const { reader } = this.#kernel;
    const name = reader.u64(dentry + layout.name);
    const length = reader.u32(dentry + layout.length);
    if (!name || length === undefined || length === 0 || length > NAME_MAX) return undefined;
    const bytes = reader.bytes(name, length);
    return bytes === undefined || bytes.includes(0) ? undefined : latin1(bytes);
  }

  /** Files that are in no directory have a function that makes up their name: dentry_operations.d_dname. */
  #specialName(layout: PathLayout, dentry: bigint): string | undefined {
    const { reader, symbols } = this.#kernel;
    const { operations, dname } = layout;
    if (operations === undefined || dname === undefined) return undefined;
    const table = reader.u64(dentry + operations);
    const call = table ? reader.u64(table + dname) : undefined;
    const name = call ? this.#nameOf(layout, dentry) : undefined;
    if (!call || name === undefined) return undefined;
    const isCall = (wanted: string) => symbols.named(wanted).some(({ address }) => address === call);
    if (isCall("anon_inodefs_dname")) return `anon_inode:${name}`;
    // Memfds, SysV shared memory and shared anonymous memory.
    if (isCall("simple_dname")) return `/${name} (deleted)`;
    return name;
  }

  /** `d_unlinked`: it is in no hash chain, and not a root. */
  #isDeleted(layout: PathLayout, dentry: bigint): boolean {
    const { reader } = this.#kernel;
    if (layout.hashed === undefined) return false;
    return reader.u64(dentry + layout.hashed) === 0n && reader.u64(dentry + layout.parent) !== dentry;
  }
}

function layoutOf({ types }: Kernel): PathLayout | undefined {
  const at = (...paths: string[]): bigint | undefined => {
    const offset = offsetOf(types, ...paths);
    return offset === undefined ? undefined : BigInt(offset);
  };
  const needed = {
    fileDentry: at("file.f_path.dentry"),
    fileMount: at("file.f_path.mnt"),
    parent: at("dentry.d_parent"),
    name: at("dentry.d_name.name"),
    length: at("dentry.d_name.len"),
    inMount: at("mount.mnt"),
    root: at("vfsmount.mnt_root"),
    mountParent: at("mount.mnt_parent"),
    mountpoint: at("mount.mnt_mountpoint"),
  };
  if (Object.values(needed).includes(undefined)) return undefined;
  return {
    ...(needed as Record<keyof typeof needed, bigint>),
    operations: at("dentry.d_op"),
    dname: at("dentry_operations.d_dname"),
    hashed: at("dentry.d_hash.pprev"),
  };
}
