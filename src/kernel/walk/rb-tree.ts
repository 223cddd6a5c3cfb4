import type { KernelReader } from "../reader.ts";
import { type KernelTypes, offsetOf } from "../types.ts";
import { incomplete, WalkLog, type WalkOutcome } from "./outcome.ts";

/** vm.max_map_count is 65 530 unless raised; KVM has at most 32 767 memslots. */
const RB_LIMIT = 2 ** 20;

/**
 * Addresses of the `rb_node`s of a tree, in its order. What hangs below a node that cannot be read is left out.
 * @param root address of the struct rb_root, or of the rb_root_cached that begins with one
 */
export function* rbNodes(
  reader: KernelReader,
  types: KernelTypes,
  root: bigint,
  limit = RB_LIMIT,
): Generator<bigint, WalkOutcome> {
  const left = offsetOf(types, "rb_node.rb_left");
  const right = offsetOf(types, "rb_node.rb_right");
  if (left === undefined || right === undefined) return incomplete("unknown-layout", root);
  const log = new WalkLog(limit);
  const above: { readonly node: bigint; readonly right: bigint }[] = [];
  // struct rb_root has one member, rb_node.
  let node = reader.u64(root);
  if (node === undefined) return incomplete("unreadable", root);
  for (;;) {
    while (node !== 0n) {
      const lower = reader.u64(node + BigInt(left));
      const higher = reader.u64(node + BigInt(right));
      if (lower === undefined || higher === undefined) {
        log.fail("unreadable", node);
        break;
      }
      if (!log.enter(node)) break;
      above.push({ node, right: higher });
      node = lower;
    }
    const next = above.pop();
    if (next === undefined) return log.outcome;
    yield next.node;
    node = next.right;
  }
}
