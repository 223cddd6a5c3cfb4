import { TextDecoder } from "node:util";
import { latin1 } from "../../core/bytes.ts";

type Encoding = "utf-16le" | "utf-16be";

/** A byte order mark: of UTF-16, which PowerShell's `>` writes, or of UTF-8. */
function markOf(bytes: Uint8Array): Encoding | "utf-8" | undefined {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return "utf-16le";
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return "utf-16be";
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? "utf-8" : undefined;
}

/** Text as bytes of UTF-8, of whatever its byte order mark says it is. */
export class TextBytes {
  #decoder: TextDecoder | undefined;
  /** The first bytes, while they are too few for a mark. */
  #head: Uint8Array | undefined = new Uint8Array(0);

  push(bytes: Uint8Array): Uint8Array {
    if (this.#head !== undefined) {
      const head = Buffer.concat([this.#head, bytes]);
      if (head.length < 3) {
        this.#head = head;
        return new Uint8Array(0);
      }
      this.#head = undefined;
      return this.#begin(head);
    }
    if (this.#decoder === undefined) return bytes;
    return Buffer.from(this.#decoder.decode(bytes, { stream: true }));
  }

  end(): Uint8Array {
    const head = this.#head;
    this.#head = undefined;
    return head === undefined ? new Uint8Array(0) : this.#begin(head);
  }

  #begin(head: Uint8Array): Uint8Array {
    const mark = markOf(head);
    if (mark === undefined) return head;
    if (mark === "utf-8") return head.subarray(3);
    this.#decoder = new TextDecoder(mark);
    return Buffer.from(this.#decoder.decode(head, { stream: true }));
  }
}

/** The beginning of a text, by its byte order mark, one byte a character. */
export function textOf(head: Uint8Array): string {
  const text = new TextBytes();
  return latin1(text.push(head)) + latin1(text.end());
}
