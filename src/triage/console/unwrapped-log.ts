import { latin1 } from "../../core/bytes.ts";
import { TextBytes } from "./encoding.ts";
import { Envelopes } from "./envelopes.ts";

const NOTHING = new Uint8Array(0);

/** The bytes of a log as UTF-8, out of what loggers wrapped it in. */
export class UnwrappedLog {
  readonly #encoding = new TextBytes();
  readonly #envelopes = new Envelopes();

  push(bytes: Uint8Array): Uint8Array {
    return this.#open(this.#encoding.push(bytes));
  }

  /** What is left, in two pieces: each has `boots` of its own. */
  *end(): Generator<Uint8Array> {
    yield this.#open(this.#encoding.end());
    const last = this.#envelopes.end();
    yield last === "" ? NOTHING : Buffer.from(last, "latin1");
  }

  /** Lines, from 1, at which a journal goes on with another boot: of what was given back last. */
  get boots(): readonly number[] {
    return this.#envelopes.boots;
  }

  /** Whether it is a journal. */
  get isJournal(): boolean {
    return this.#envelopes.isJournal;
  }

  #open(bytes: Uint8Array): Uint8Array {
    const envelopes = this.#envelopes;
    return envelopes.isPlain ? bytes : Buffer.from(envelopes.push(latin1(bytes)), "latin1");
  }
}
