import { describe, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DataplaneFlows, type Flow, type FlowFilter, flowMatcher } from '#dataplanes/flows.ts';
import { AdminServer } from '../admin/server.ts';
import { deleteFlows, reportFlows } from '../conntrack/conntrack-report.ts';
import { UnknownPartyError } from '../explain/directory.ts';
import { createLog } from '../log.ts';
import { conntrackCommand } from './conntrack-command.ts';

const direct: Flow = {
  family: 6,
  protocol: 17,
  asked: { source: 'fd65::2', sourcePort: 5000, destination: 'fd65::3', destinationPort: 53 },
  delivered: { source: 'fd65::2', sourcePort: 5000, destination: 'fd65::3', destinationPort: 53 },
  state: 'established',
  crossesNetfilter: true,
  leftSeconds: 100,
  details: ['assured'],
};
const translated: Flow = {
  family: 4,
  protocol: 6,
  asked: { source: '10.65.0.2', sourcePort: 40_000, destination: '10.96.0.1', destinationPort: 80 },
  delivered: { source: '10.65.0.2', sourcePort: 40_000, destination: '10.65.0.3', destinationPort: 8080 },
  state: 'closing',
  crossesNetfilter: false,
  way: 'pod',
  idleSeconds: 4.2,
  packets: { opener: 3, other: 2 },
  details: ['egress-ok'],
};

/** Flows in memory. */
class FakeFlows implements Pick<DataplaneFlows, 'list' | 'delete'> {
  flows: readonly Flow[] = [direct, translated];
  failed: readonly string[] = [];

  async *list(filter: FlowFilter): AsyncGenerator<readonly Flow[]> {
    yield this.flows.filter(flowMatcher(filter));
  }

  delete(filter: FlowFilter): Promise<{ deleted: number; failed: readonly string[] }> {
    const before = this.flows.length;
    this.flows = this.flows.filter((flow) => !flowMatcher(filter)(flow));
    return Promise.resolve({ deleted: before - this.flows.length, failed: this.failed });
  }
}

/** The command against an agent of which only this is there. */
async function run(flows: FakeFlows | undefined, ...args: string[]) {
  const dir = mkdtempSync(join(tmpdir(), 'tortie-conntrack-'));
  const active = { kind: 'iptables', ...(flows && { flows: flows as unknown as DataplaneFlows }) };
  const directory = {
    find: (text: string) => {
      if (text !== 'default/web') throw new UnknownPartyError(`${text} is no endpoint of this node`);
      return { name: text, kind: 'local endpoint' as const, addresses: ['10.65.0.2'] };
    },
  };
  const server = new AdminServer(
    dir,
    { '/conntrack': (query) => reportFlows(query, active, directory) },
    createLog('node1'),
    { '/conntrack/delete': (query) => deleteFlows(query, active, directory) },
  );
  const [out, err]: [string[], string[]] = [[], []];
  try {
    await server.listen();
    const status = await conntrackCommand.run(
      args,
      { TORTIE_RUN_DIR: dir },
      {
        out: (text) => void out.push(text),
        err: (text) => void err.push(text),
      },
    );
    return { status, out: out.join('\n'), err: err.join('\n') };
  } finally {
    await server[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true });
  }
}

describe('tortie conntrack', () => {
  test('has a line for each flow', async () => {
    const { out, status } = await run(new FakeFlows());
    expect(status).toBe(0);
    const [header, ...lines] = out.split('\n').map((line) => line.split(/ {2,}/));
    expect(header).toEqual([
      'PROTOCOL',
      'STATE',
      'FROM',
      'TO',
      'TRANSLATED',
      'IDLE',
      'LEFT',
      'PACKETS',
      'WAY',
      'DETAILS',
    ]);
    expect(lines).toEqual([
      ['udp', 'established', '[fd65::2]:5000', '[fd65::3]:53', '-', '100s', '-', '-', 'assured'],
      ['tcp', 'closing', '10.65.0.2:40000', '10.96.0.1:80', 'to 10.65.0.3:8080', '4s', '-', '3/2', 'pod', 'egress-ok'],
    ]);
  });

  test.each([
    [['--pod', 'default/web'], [translated]],
    [['--address', '10.65.0.3'], [translated]],
    [['--pod', 'default/web', '--address', 'fd65::3'], []],
    [['--port', '53'], [direct]],
    [['--protocol', 'udp'], [direct]],
    [['--protocol', '6'], [translated]],
    [['--state', 'closing,closed'], [translated]],
  ])('%j narrows it', async (args, flows) => {
    const { out } = await run(new FakeFlows(), ...args, '-o', 'json');
    expect(JSON.parse(out)).toEqual({ dataplane: 'iptables', flows, more: false });
  });

  test('says when there are more than were asked for', async () => {
    const { out } = await run(new FakeFlows(), '--limit', '1');
    expect(out).toMatch(/there are more/);
    expect(out).not.toMatch(/10\.96\.0\.1/);
  });

  test.each([
    [['--address', 'nobody'], /nobody is no address/],
    [['--port', '70000'], /no port/],
    [['--protocol', 'quic'], /no protocol/],
    [['--state', 'open'], /no state: there are new, opening/],
    [['--pod', 'x'], /no endpoint of this node/],
    [['--limit', '0'], /from 1 to 100000/],
    [['delete'], /at least one of --pod, --address/],
    [['delete', '--port', '53', '--limit', '3'], /--limit is for lists/],
    [['remove'], /use: tortie conntrack/],
  ])('%j is refused', async (args, reason) => {
    const flows = new FakeFlows();
    await expect(run(flows, ...args)).rejects.toThrow(reason);
    expect(flows.flows).toHaveLength(2);
  });

  test('delete takes what matches, and says how many', async () => {
    const flows = new FakeFlows();
    expect(await run(flows, 'delete', '--protocol', 'tcp')).toEqual({ status: 0, out: '1 flows deleted', err: '' });
    expect(flows.flows).toEqual([direct]);
    expect(JSON.parse((await run(flows, 'delete', '--port', '53', '-o', 'json')).out)).toEqual({
      dataplane: 'iptables',
      deleted: 1,
      failed: [],
    });
  });

  test('what could not be deleted is said, and the status is 1', async () => {
    const flows = new FakeFlows();
    flows.failed = ['tcp a > b: EBUSY'];
    expect(await run(flows, 'delete', '--port', '9')).toEqual({
      status: 1,
      out: '0 flows deleted',
      err: 'tortie conntrack: tcp a > b: EBUSY',
    });
  });

  test('a dataplane that tells none is named', async () => {
    await expect(run(undefined)).rejects.toThrow("the dataplane iptables doesn't tell the flows");
  });
});
