import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { CniAnswer, CniRequest } from '#cni/deps.ts';
import { decodeRequest, encodeAnswer, MAX_REQUEST_BYTES } from '#cni/protocol.ts';
import type { Log } from '../log.ts';
import { RootSocket } from '../root-socket.ts';

/** Answers one CNI call; never rejects. */
export type CniHandler = (request: CniRequest) => Promise<CniAnswer>;

/**
 * The agent's end of the CNI executable: one connection, one call. The socket is for root alone (mode 0600 in a directory of mode
 * 0700). An ADD whose answer can't be delivered is undone, because nobody will ever know that it succeeded.
 */
export class CniServer implements AsyncDisposable {
  readonly #handle: CniHandler;
  readonly #log: Log;
  readonly #calls = new Set<Promise<void>>();
  /** Connections whose request isn't complete. */
  readonly #reading = new Set<Socket>();
  readonly #socket: RootSocket;

  constructor(runDir: string, handle: CniHandler, log: Log) {
    this.#handle = handle;
    this.#log = log;
    const server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
    this.#socket = new RootSocket(server, join(runDir, 'cni.sock'), log);
  }

  async listen(): Promise<void> {
    await this.#socket.listen();
  }

  /** Takes no new calls, and waits for those under way. A request that isn't complete yet is none: its caller sees the end. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = this.#socket.close();
    for (const socket of this.#reading) socket.destroy();
    await closed;
    await Promise.all(this.#calls);
  }

  #accept(socket: Socket): void {
    const chunks: Buffer[] = [];
    let size = 0;
    let closed = false;
    socket.on('error', (error) => this.#log.debug({ err: error }, 'CNI connection'));
    this.#reading.add(socket);
    socket.on('close', () => {
      closed = true;
      this.#reading.delete(socket);
    });
    socket.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > MAX_REQUEST_BYTES) socket.destroy();
      else chunks.push(chunk);
    });
    socket.on('end', () => {
      this.#reading.delete(socket);
      const call = this.#serve(Buffer.concat(chunks), socket, () => closed).finally(() => this.#calls.delete(call));
      this.#calls.add(call);
    });
  }

  async #serve(bytes: Buffer, socket: Socket, isClosed: () => boolean): Promise<void> {
    let request: CniRequest;
    try {
      request = decodeRequest(bytes);
    } catch (error) {
      this.#log.warn({ err: error }, 'a CNI request could not be read');
      socket.destroy();
      return;
    }
    const answer = await this.#handle(request);
    const delivered = !isClosed() && (await deliver(socket, encodeAnswer(answer)));
    if (!delivered && request.env['CNI_COMMAND'] === 'ADD' && answer.exitCode === 0) {
      const container = request.env['CNI_CONTAINERID'];
      this.#log.warn({ container }, 'the CNI executable is gone before its ADD was answered; undoing the ADD');
      await this.#handle({ ...request, env: { ...request.env, CNI_COMMAND: 'DEL' } });
    }
  }
}

/** True when the kernel has taken the whole answer while the other side was still there. */
function deliver(socket: Socket, answer: Buffer): Promise<boolean> {
  return new Promise((resolve) => {
    socket.once('error', () => resolve(false));
    socket.once('close', () => resolve(false));
    socket.end(answer, (error?: Error | null) => resolve(error === undefined || error === null));
  });
}
