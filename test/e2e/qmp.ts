import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { createInterface, type Interface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

/** A connection to QEMU's machine protocol, just enough to pause a guest and ask it what it is. */
export class Qmp {
  readonly #socket: Socket;
  readonly #lines: AsyncIterator<string>;

  private constructor(socket: Socket, lines: Interface) {
    this.#socket = socket;
    this.#lines = lines[Symbol.asyncIterator]();
  }

  /** Connects as soon as QEMU listens. @throws Error when it does not within ten seconds */
  static async open(path: string): Promise<Qmp> {
    for (let attempt = 0; ; attempt++) {
      const socket = connect(path);
      try {
        await once(socket, "connect");
        const qmp = new Qmp(socket, createInterface({ input: socket }));
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
    this.#socket.write(`${JSON.stringify({ execute: name, arguments: args })}\n`);
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

  async #answer(): Promise<Record<string, unknown>> {
    for (;;) {
      const line = await this.#lines.next();
      if (line.done) throw new Error("QEMU closed its monitor");
      const message = JSON.parse(line.value) as Record<string, unknown>;
      if (!("event" in message)) return message;
    }
  }
}
