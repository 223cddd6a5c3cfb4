import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { GuestcoreError } from "../src/core/errors.ts";
import type { PhysicalMemory } from "../src/core/memory.ts";
import { agreementOf } from "../src/guest/agreement.ts";
import type { Cluster } from "../src/guest/cluster.ts";
import { memoryOf } from "../src/guest/host-guest.ts";
import { guestsOfBlocks, guestsOfKvm } from "../src/guest/kvm-guests.ts";
import { WalkBudget } from "../src/guest/second-level.ts";
import { readVcpus } from "../src/jobs/extract-host.ts";
import type { GuestSummary } from "../src/jobs/guests.ts";
import { type Block, type HostDump as Host, openHost } from "../src/jobs/host.ts";
import { type Input, openInput } from "../src/jobs/input.ts";
import type { LinuxKernel } from "../src/kernel/open-kernel.ts";
import { KernelReader } from "../src/kernel/reader.ts";
import { kvmVms } from "../src/kvm/vms.ts";
import { guestsJson, guestsText } from "../src/report/guests.ts";
import { PageTables } from "../src/x86/paging.ts";
import { cpuTime } from "./support/cpu-time.ts";
import { type HostDump, openHostDump, whyNoHostDump } from "./support/host-dumps.ts";
import { quiet } from "./support/memory-io.ts";
import { type Random, random } from "./synth/pattern.ts";

/**
 * Damage to what a host's kernel says of its VMs (struct kvm, memslots, vCPUs, tasks, the page tables of VMMs) ends in
 * an answer, in bounded time. A failure names seed and number of the mutant.
 */
const COUNT = Number(process.env.GUESTCORE_MUTANTS ?? 60);
const SEED = Number(process.env.GUESTCORE_SEED ?? 20261126);
const MAX_SECONDS = 20;
const PAGE = 4096;
const MINUTE = 60_000;

/** Physical address of a word that matters. */
interface Place {
  readonly at: number;
  readonly size: number;
}

/** Members of what one VM leads to. */
const KVM = ["mm", "memslots", "vm_list", "vcpu_array.xa_head", "online_vcpus"];
const MEMSLOTS = ["gfn_tree", "node_idx"];
const SLOT = ["gfn_node", "base_gfn", "npages", "userspace_addr", "flags", "id"];
const VCPU = ["kvm", "vcpu_id", "cpu", "mode", "pid", "arch.regs", "arch.regs_dirty", "arch.mp_state"];
const MM = ["pgd", "mm_mt.ma_root", "arg_start", "arg_end"];
const TASK = ["tasks", "mm", "pid", "tgid", "signal", "thread_node", "comm"];

describe.each([
  ["svm/two-guests", "vmcore.d23.elf.zst"],
  ["vmx/pattern-guest", "vmcore.elf.zst"],
])("%s", (folder, packed) => {
  const reason = whyNoHostDump(folder);
  describe.skipIf(reason !== undefined)(reason === undefined ? "mutants" : `skipped: ${reason}`, () => {
    let dump: HostDump;
    let input: Input;
    let host: Host;
    let clusters: readonly Cluster<Block>[];
    let places: readonly Place[];
    let tables: readonly number[];

    beforeAll(async () => {
      dump = openHostDump(folder, packed);
      input = await openInput(dump.path, quiet);
      host = await openHost(input, {}, () => {}, quiet);
      clusters = host.guests.map(({ root, vcpus, others }) => ({
        root,
        members: [
          ...vcpus.map(({ block }) => ({ block: block!, role: "vcpu" as const, reason: undefined })),
          ...others,
        ],
      }));
      places = placesOf(host);
      // Every page that is read on the way, tables of the kernel, of VMMs and of second level among them.
      const read = new Set<number>();
      const recorded: PhysicalMemory = {
        ranges: host.memory.ranges,
        extentAt: (address, limit, holes) => host.memory.extentAt(address, limit, holes),
        readPage(address, target) {
          read.add(address - (address % PAGE));
          return host.memory.readPage(address, target);
        },
      };
      await analyse(host, clusters, recorded, false);
      tables = [...read];
    }, 5 * MINUTE);
    afterAll(() => {
      input.close();
      dump.close();
    });

    test("nothing is lost where nothing is damaged", async () => {
      const { text } = await analyse(host, clusters, host.memory);
      expect(text).not.toMatch(/note: (the|of|told|mem)/);
      expect(text.match(/^guest \d/gm)!.length).toBe(host.guests.length);
      expect(places.length).toBeGreaterThan(100);
      expect(tables.length).toBeGreaterThan(100);
    });

    test(`${COUNT} mutants of seed ${SEED}`, { timeout: 15 * MINUTE }, async () => {
      const outcomes = { guests: 0, problems: 0, errors: 0 };
      for (let number = 0; number < COUNT; number++) {
        const name = `mutant ${number} of seed ${SEED}`;
        const began = cpuTime();
        try {
          const { text, guests, isWhole, lost, blind } = await analyse(
            host,
            clusters,
            damaged(host.memory, places, tables, random(SEED + number)),
          );
          expect(text, name).not.toMatch(/undefined|NaN|\[object|Infinity/);
          expect(guests, name).toBeGreaterThan(0);
          outcomes.guests++;
          if (!isWhole) {
            outcomes.problems++;
            // What control blocks show stays where KVM's own words are not all there.
            expect(lost, name).toBeLessThanOrEqual(blind);
            expect(text, name).toMatch(/note: (the|of|told|mem|\d)/);
          }
        } catch (error) {
          if (!(error instanceof GuestcoreError))
            throw new Error(`${name}: ${String(error)}`, { cause: error });
          outcomes.errors++;
        }
        const seconds = (cpuTime() - began) / 1000;
        expect(seconds, name).toBeLessThan(MAX_SECONDS);
      }
      expect(outcomes.problems).toBeGreaterThan(COUNT / 20);
      expect(outcomes.guests).toBeGreaterThan(0);
    });
  });
});

/** What `guests --check` does once control blocks are found. */
async function analyse(host: Host, clusters: readonly Cluster<Block>[], memory: PhysicalMemory, copy = true) {
  const own = host.kernel!;
  const space = new PageTables(memory, (own.reader.space as PageTables).root, own.shape);
  const kernel: LinuxKernel = { ...own, reader: new KernelReader(memory, space) };
  const kvm = await kvmVms(kernel);
  const { guests } =
    kvm.vms.length === 0 ? { guests: guestsOfBlocks(clusters) } : guestsOfKvm(kvm, clusters, []);
  const found: Host = { ...host, memory, kernel, kvmUnknown: kvm.problem, guests };
  const budget = new WalkBudget(memory);
  const summaries: GuestSummary[] = [];
  for (const guest of guests) {
    const held = await memoryOf(found, guest, { budget });
    if (copy && held !== undefined) copyAll(held.memory);
    const agreement = held?.slots && held.tables ? await agreementOf(held.slots, held.tables) : undefined;
    summaries.push({
      guest,
      vcpus: readVcpus(found, guest),
      tables: held?.tables?.facts,
      slots: held?.slots?.facts,
      agreement,
      linux: undefined,
    });
  }
  const result = { input: { path: "host", size: 1 }, host: found, guests: summaries, warnings: [] };
  const text = guestsText(result as unknown as Parameters<typeof guestsText>[0]);
  JSON.stringify(guestsJson(result as unknown as Parameters<typeof guestsJson>[0]), (_, value) =>
    typeof value === "bigint" ? String(value) : value,
  );
  const isWhole = kvm.problem === undefined && kvm.vms.every(({ problems }) => problems.length === 0);
  const vcpus = guests.flatMap((guest) => guest.vcpus);
  const shown = new Set(vcpus.map(({ block }) => block));
  const lost = clusters
    .flatMap(({ members }) => members)
    .filter(({ block, role }) => role === "vcpu" && !shown.has(block));
  // One whose pointer to its block is damaged has none, and the block is of no vCPU.
  const blind = vcpus.filter(({ block }) => block === undefined).length;
  return { text, guests: guests.length, isWhole, lost: lost.length, blind };
}

/** Steps of a copy: more than the pages of all guests here. */
const MAX_STEPS = 100_000;

/** Goes through memory as a copier does. A range that goes on and on must do so in few steps. */
function copyAll(memory: PhysicalMemory): void {
  const target = Buffer.alloc(PAGE);
  let steps = 0;
  for (const { start, end } of memory.ranges) {
    for (let at = start; at < end; steps++) {
      const extent = memory.extentAt(at, end);
      if (extent.start !== at || extent.end <= at || steps > MAX_STEPS)
        throw new Error(`extents stand still at ${at}`);
      if (extent.state === "present") memory.readPage(at, target);
      at = extent.end;
    }
  }
}

/** Where the structures of a host's VMs have what is followed. */
function placesOf({ kernel, guests }: Host): Place[] {
  const { reader, types, symbols } = kernel!;
  const places: Place[] = [];
  const add = (virtual: bigint, size: number) => {
    const mapping = reader.space.translate(virtual);
    if (mapping.mapped) places.push({ at: mapping.physical, size });
  };
  const addMembers = (type: string, address: bigint, names: readonly string[]) => {
    for (const member of names) {
      const found = types.member(`${type}.${member}`);
      if (found === undefined) throw new Error(`no ${type}.${member}`);
      for (let at = 0; at < Math.min(found.size, 64); at += 8)
        add(address + BigInt(found.offset + at), Math.min(8, found.size));
    }
  };
  const pointer = (address: bigint, path: string, index = 0) =>
    reader.u64(address + BigInt(types.member(path)!.offset + 8 * index))!;
  add(symbols.addressOf("vm_list")!, 8);
  addMembers("task_struct", symbols.addressOf("init_task")!, ["tasks"]);
  for (const { vm } of guests) {
    const { address, mm, owner, vcpus } = vm!;
    addMembers("kvm", address, KVM);
    addMembers("mm_struct", mm!, MM);
    addMembers("task_struct", owner!.task.address, TASK);
    const memslots = pointer(address, "kvm.memslots");
    addMembers("kvm_memslots", memslots, MEMSLOTS);
    const node = types.member("kvm_memory_slot.gfn_node")!;
    const index = reader.u32(memslots + BigInt(types.member("kvm_memslots.node_idx")!.offset))!;
    const top = pointer(memslots, "kvm_memslots.gfn_tree");
    const nodes = [top, pointer(top, "rb_node.rb_left"), pointer(top, "rb_node.rb_right")];
    for (const one of nodes.filter((at) => at !== 0n))
      addMembers("kvm_memory_slot", one - BigInt(node.offset + index * node.stride), SLOT);
    for (const vcpu of vcpus) addMembers("kvm_vcpu", vcpu.address, VCPU);
    const head = pointer(address, "kvm.vcpu_array.xa_head");
    if ((head & 3n) === 2n) addMembers("xa_node", head - 2n, ["shift", "slots"]);
  }
  return places;
}

/** Memory with a few words changed, each a member or part of a table, or a page of them left out. */
function damaged(
  memory: PhysicalMemory,
  places: readonly Place[],
  tables: readonly number[],
  chance: Random,
): PhysicalMemory {
  const pages = new Map<number, Buffer | "excluded">();
  const pageAt = (address: number): Buffer | "excluded" => {
    let bytes = pages.get(address);
    if (bytes === undefined) {
      bytes = Buffer.alloc(PAGE);
      memory.readPage(address, bytes);
      pages.set(address, bytes);
    }
    return bytes;
  };
  for (let n = 1 + chance.below(5); n > 0; n--) {
    const isMember = chance.below(3) > 0;
    const place = isMember
      ? chance.pick(places)
      : { at: chance.pick(tables) + 8 * chance.below(512), size: 8 };
    const offset = place.at % PAGE;
    const page = place.at - offset;
    if (chance.below(12) === 0) {
      pages.set(page, "excluded");
      continue;
    }
    const bytes = pageAt(page);
    if (bytes === "excluded" || offset + 8 > PAGE) continue;
    const word = bytes.readBigUInt64LE(offset);
    const other = chance.pick(places);
    const changed = BigInt.asUintN(
      64,
      chance.pick([
        ...[0n, 1n, -1n, 1n << 40n, 0xffff_ffffn, 1n << 63n],
        word ^ (1n << BigInt(chance.below(64))),
        word + BigInt(8 * chance.below(16)),
        wordAt(memory, other.at),
        wordAt(memory, chance.pick(tables) + 8 * chance.below(512)),
      ]),
    );
    const value = Buffer.alloc(8);
    value.writeBigUInt64LE(changed);
    value.copy(bytes, offset, 0, place.size);
  }
  return {
    ranges: memory.ranges,
    extentAt(address, limit, holes) {
      const page = address - (address % PAGE);
      const own = pages.get(page);
      const end = Math.min(limit, page + PAGE);
      if (own !== undefined)
        return { start: address, end, state: own === "excluded" ? "excluded" : "present" };
      const extent = memory.extentAt(address, limit, holes);
      let stop = extent.end;
      for (const at of pages.keys()) if (at > address && at < stop) stop = at;
      return stop === extent.end ? extent : { ...extent, end: stop };
    },
    readPage(address, target) {
      const own = pages.get(address - (address % PAGE));
      if (own === undefined) return memory.readPage(address, target);
      if (own === "excluded") return own;
      target.set(own);
      return "present";
    },
  };
}

function wordAt(memory: PhysicalMemory, at: number): bigint {
  const bytes = Buffer.alloc(PAGE);
  memory.readPage(at - (at % PAGE), bytes);
  const offset = Math.min(at % PAGE, PAGE - 8);
  return bytes.readBigUInt64LE(offset);
}
