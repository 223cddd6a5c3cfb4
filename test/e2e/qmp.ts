import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

export type QmpMessage = Readonly<Record<string, unknown>>;
/** Hears of every message as it passes: `>` to QEMU, `<` from it. */
export type QmpListener = (direction: ">" | "<", message: QmpMessage) => void;

/** A connection to QEMU's machine protocol, just enough to pause a guest and ask it what it is. */
export class Qmp {
  readonly #socket: Socket;
  readonly #listener: QmpListener;
  readonly #answers: QmpMessage[] = [];
  /** Whoever waits for an answer; called when there is one, and when there will be none. */
  #wake: (() => void) | undefined;
  #closed = false;

  private constructor(socket: Socket, listener: QmpListener) {
    this.#socket = socket;
    this.#listener = listener;
    // An error of the socket is the interface's too; "close" comes next.
    socket.on("error", () => {});
    createInterface({ input: socket })
      .on("error", () => {})
      .on("line", (line) => this.#heard(JSON.parse(line) as QmpMessage));
    socket.on("close", () => {
      this.#closed = true;
      this.#wake?.();
    });
  }

  /** Connects as soon as QEMU listens. @throws Error when it does not within ten seconds */
  static async open(path: string, listener: QmpListener = () => {}): Promise<Qmp> {
    for (let attempt = 0; ; attempt++) {
      const socket = connect(path);
      try {
        await once(socket, "connect");
        const qmp = new Qmp(socket, listener);
        await qmp.#answer(); // the greeting
        await qmp.command("qmp_capabilities");
        return qmp;
      } catch (error) {
        socket.destroy();
        if (attempt >= 100) throw error;
        await sleep(100);
      }
    }
  }

  async command(name: string, args: Record<string, unknown> = {}): Promise<unknown> {
    const message = { execute: name, arguments: args };
    this.#listener(">", message);
    this.#socket.write(`${JSON.stringify(message)}\n`);
    const answer = await this.#answer();
    if ("error" in answer) throw new Error(`${name}: ${JSON.stringify(answer.error)}`);
    return answer.return;
  }

  /** A command of the human monitor, and what it prints. */
  async monitor(line: string): Promise<string> {
    const text = await this.command("human-monitor-command", { "command-line": line });
    return String(text).replaceAll("\r\n", "\n");
  }

  close(): void {
    this.#socket.destroy();
  }

  #heard(message: QmpMessage): void {
    this.#listener("<", message);
    if ("event" in message) return;
    this.#answers.push(message);
    this.#wake?.();
  }

  async #answer(): Promise<QmpMessage> {
    for (;;) {
      const answer = this.#answers.shift();
      if (answer !== undefined) return answer;
      if (this.#closed) throw new Error("QEMU closed its monitor");
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
