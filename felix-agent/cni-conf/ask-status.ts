import { connect } from 'node:net';
import { encodeRequest } from '#cni/protocol.ts';

/** How long the agent's own socket may take, in ms. */
const timeoutMs = 5_000;

/** CNI's STATUS, asked over the socket as the runtime's executable would. Undefined: an ADD could succeed now; else why not. */
export function askStatus(socketPath: string): Promise<string | undefined> {
  const stdin = JSON.stringify({ cniVersion: '1.1.0', name: 'k8s-pod-network', type: 'tortie' });
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const socket = connect(socketPath);
    socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)));
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('error', (error) => resolve(`${socketPath} does not answer: ${error.message}`));
    socket.on('close', () => resolve(reasonIn(Buffer.concat(chunks).toString(), socketPath)));
    socket.end(encodeRequest({ env: { CNI_COMMAND: 'STATUS' }, stdin }));
  });
}

function reasonIn(answer: string, socketPath: string): string | undefined {
  if (answer.startsWith('0')) return undefined;
  try {
    return (JSON.parse(answer.slice(1)) as { readonly msg: string }).msg;
  } catch {
    return `${socketPath} closed without an answer`;
  }
}
