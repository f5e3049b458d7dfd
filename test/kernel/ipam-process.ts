/**
 * A node's IPAM as a process of its own, on a files datastore: `DIR NODE JOURNAL FACTS`, where FACTS is JSON of {live, valid?}. Commands are
 * JSON lines on stdin; each is answered by a line with its id on stdout. Says `{"id":0}` when it is ready.
 */
import { createInterface } from 'node:readline';
import { writeSync } from 'node:fs';
import { systemClock } from '#api/clock.ts';
import { openFilesDatastore } from '#datastore/files/files-datastore.ts';
import { asIpamError } from '#ipam/requests.ts';
import { NodeIpam } from '#ipam/node-ipam.ts';
import { WatchedFacts } from '#ipam/watched-facts-for-tests.ts';
import { KernelFileLock } from '#native/flock.ts';

/** What the test asks for. */
export type Command =
  | { readonly id: number; readonly do: 'assign'; readonly handle: string; readonly want6: boolean }
  | { readonly id: number; readonly do: 'release'; readonly handle: string }
  | { readonly id: number; readonly do: 'gc'; readonly valid: readonly string[] }
  | { readonly id: number; readonly do: 'flush' | 'close' };

/** What it hears. */
export interface Reply {
  readonly id: number;
  readonly addresses?: readonly string[];
  readonly code?: string;
  readonly message?: string;
}

/** What a test says of the node when it starts. */
export interface FactsArgument {
  readonly live: readonly (readonly [string, { readonly handle: string } | null])[];
  readonly valid?: readonly string[];
}

if (process.argv[1]?.endsWith('ipam-process.ts') === true) {
  await main(process.argv.slice(2));
}

async function main([dir = '', nodeName = '', journalPath = '', factsText = '']: readonly string[]): Promise<void> {
  const log = (_level: string, message: string): void => void writeSync(2, `${nodeName}: ${message}\n`);
  const datastore = await openFilesDatastore({ dir, lock: new KernelFileLock(), clock: systemClock, log });
  const facts = new WatchedFacts(datastore, nodeName, systemClock, (error) => log('warn', String(error)));
  await facts.start();
  const ipam = new NodeIpam({ datastore, nodeName, clock: systemClock, facts, journalPath, log });
  const { live, valid } = JSON.parse(factsText) as FactsArgument;
  await ipam.start({
    live: new Map(live.map(([address, owner]) => [address, owner ?? undefined])),
    ...(valid === undefined ? {} : { valid: new Set(valid) }),
  });
  reply({ id: 0 });
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line) as Command;
    void carryOut(ipam, command).then(reply, (error: unknown) => {
      const { code, message } = asIpamError(error);
      reply({ id: command.id, code, message });
    });
  }
  await facts[Symbol.asyncDispose]();
  await datastore[Symbol.asyncDispose]();
}

async function carryOut(ipam: NodeIpam, command: Command): Promise<Reply> {
  const { id } = command;
  switch (command.do) {
    case 'assign': {
      const { handle, want6 } = command;
      const { addresses } = await ipam.autoAssign({
        handle,
        attributes: { pod: handle, namespace: 'default' },
        want4: true,
        want6,
      });
      return { id, addresses: addresses.map((address) => address.split('/')[0] ?? '') };
    }
    case 'release':
      return { id, addresses: await ipam.releaseHandle(command.handle) };
    case 'gc':
      return { id, addresses: await ipam.gc(new Set(command.valid), new Set()) };
    case 'flush':
      await ipam.flush();
      return { id };
    case 'close':
      await ipam.close();
      return { id };
  }
}

function reply(answer: Reply): void {
  writeSync(1, `${JSON.stringify(answer)}\n`);
}
