import type { KernelReader } from "../reader.ts";
import { WalkLog, type WalkOutcome } from "./outcome.ts";

/** Nodes of one list: PID_MAX_LIMIT is 4 Mi, and no list that is read here is longer. */
const LIST_LIMIT = 4 * 2 ** 20;
/** struct list_head is { next, prev } in every kernel (include/linux/types.h). */
const PREV = 8n;

/**
 * Addresses of the nodes of a `list_head`, in order, without the head. Where the chain breaks, the rest comes from the
 * list's end backwards, up to the break.
 * @param head address of the head, which is no element
 */
export function* listNodes(
  reader: KernelReader,
  head: bigint,
  limit = LIST_LIMIT,
): Generator<bigint, WalkOutcome> {
  const log = new WalkLog(limit);
  let next = reader.u64(head);
  if (next === undefined) log.fail("unreadable", head);
  while (next !== undefined && next !== head) {
    const node: bigint = next;
    next = reader.u64(node);
    if (next === undefined) log.fail("unreadable", node);
    else if (log.enter(node)) yield node;
    else break;
  }
  if (!log.outcome.complete && log.outcome.reason !== "limit") yield* backwards(reader, head, limit, log);
  return log.outcome;
}

/** From the list's end on, up to what the way forward has met. */
function* backwards(reader: KernelReader, head: bigint, limit: number, log: WalkLog): Generator<bigint> {
  let node = reader.u64(head + PREV);
  for (let i = 0; i < limit && node !== undefined && node !== head && !log.has(node); i++) {
    const previous = reader.u64(node + PREV);
    if (previous === undefined || !log.enter(node)) return;
    yield node;
    node = previous;
  }
}
