import { describe, expect, test } from '@jest/globals';
import type { ConntrackEntry, ConntrackTcpState } from '#native/conntrack-types.ts';
import type { Flow } from '../flows.ts';
import { entryOfFlow, entryTimeouts, flowOfEntry } from './conntrack-entries.ts';

const side = { flags: [], windowScale: 0 } as const;
const closed = { flags: ['close-init'], windowScale: 0 } as const;

/** A connection to a Service, answered by a backend. */
const entryOf = (more: Partial<ConntrackEntry> = {}): ConntrackEntry => ({
  family: 4,
  original: { source: '10.65.0.2', destination: '10.96.0.1', protocol: 6, sourcePort: 40_000, destinationPort: 80 },
  reply: { source: '10.65.0.3', destination: '10.65.0.2', protocol: 6, sourcePort: 8080, destinationPort: 40_000 },
  zone: 0,
  zoneDirection: 'both',
  mark: 0,
  status: ['seen-reply', 'assured', 'confirmed'],
  timeoutSeconds: 100,
  id: 1,
  tcp: { state: 'established', original: side, reply: side },
  ...more,
});
const tcp = (state: ConntrackTcpState): Partial<ConntrackEntry> => ({ tcp: { state, original: side, reply: side } });
const { tcp: _, ...withoutTcp } = entryOf();
const udp: ConntrackEntry = {
  ...withoutTcp,
  original: { ...withoutTcp.original, protocol: 17 },
  reply: { ...withoutTcp.reply, protocol: 17 },
};
const timeouts = entryTimeouts(() => undefined);

describe('an entry as a flow', () => {
  test('says what was asked for and what was delivered', () => {
    expect(flowOfEntry(entryOf())).toEqual({
      family: 4,
      protocol: 6,
      asked: { source: '10.65.0.2', sourcePort: 40_000, destination: '10.96.0.1', destinationPort: 80 },
      delivered: { source: '10.65.0.2', sourcePort: 40_000, destination: '10.65.0.3', destinationPort: 8080 },
      state: 'established',
      crossesNetfilter: true,
      leftSeconds: 100,
      details: ['established', 'seen-reply', 'assured', 'confirmed'],
    });
  });

  test.each<[ConntrackTcpState, Flow['state']]>([
    ['syn-sent', 'new'],
    ['syn-recv', 'opening'],
    ['established', 'established'],
    ['fin-wait', 'closing'],
    ['close-wait', 'closing'],
    ['last-ack', 'closed'],
    ['time-wait', 'closed'],
    ['close', 'closed'],
  ])('TCP in state %s is %s', (state, expected) => {
    expect(flowOfEntry(entryOf(tcp(state))).state).toBe(expected);
  });

  test.each<[string, ConntrackEntry, Flow['state']]>([
    ['unanswered TCP, taken up in its midst', entryOf({ status: ['confirmed'] }), 'new'],
    ['UDP', udp, 'established'],
    ['unanswered UDP', { ...udp, status: ['confirmed'] }, 'new'],
    ['a dying entry', { ...udp, status: ['seen-reply', 'dying'] }, 'closed'],
    ['SCTP that ends', { ...udp, sctp: { state: 'shutdown-sent', originalTag: 1, replyTag: 2 } }, 'closing'],
    ['SCTP that has ended', { ...udp, sctp: { state: 'closed', originalTag: 1, replyTag: 2 } }, 'closed'],
  ])('%s', (_, entry, state) => {
    expect(flowOfEntry(entry).state).toBe(state);
  });

  test('who closed first is told', () => {
    const closing = (original: typeof side | typeof closed, reply: typeof side | typeof closed) =>
      flowOfEntry(entryOf({ tcp: { state: 'fin-wait', original, reply } })).finished;
    expect(closing(closed, side)).toEqual({ opener: true, other: false });
    expect(closing(side, closed)).toEqual({ opener: false, other: true });
    expect(closing(side, side)).toEqual({ opener: true, other: false });
    expect(flowOfEntry(entryOf())).not.toHaveProperty('finished');
  });

  test('an echo request says type and identifier, also translated', () => {
    const flow = flowOfEntry({
      ...udp,
      original: { source: '10.65.0.2', destination: '10.65.0.3', protocol: 1, icmp: { id: 7, type: 8, code: 0 } },
      reply: { source: '10.65.0.3', destination: '10.0.0.1', protocol: 1, icmp: { id: 9, type: 0, code: 0 } },
    });
    expect(flow.asked).toEqual({ source: '10.65.0.2', destination: '10.65.0.3', icmp: { type: 8, id: 7 } });
    expect(flow.delivered).toEqual({ source: '10.0.0.1', destination: '10.65.0.3', icmp: { type: 8, id: 9 } });
  });

  test.each<[Partial<ConntrackEntry>, string]>([
    [{ helper: 'ftp' }, 'a helper follows it'],
    [{ status: ['seen-reply', 'expected'] }, 'it is related to another flow'],
    [{ status: ['seen-reply', 'seq-adjust'] }, 'its sequence numbers are adjusted'],
    [{ status: ['seen-reply', 'offload'] }, 'a flowtable has it'],
    [{ zone: 5 }, 'it is in a zone'],
  ])('%j can not be carried', (more, reason) => {
    expect(flowOfEntry(entryOf(more)).bound).toBe(reason);
  });
});

describe('a flow as an entry', () => {
  const flow = flowOfEntry(entryOf());

  test('has the plain tuple of what was asked for, and its translation beside it', () => {
    expect(entryOfFlow(flow, timeouts)).toEqual({
      family: 4,
      original: entryOf().original,
      nat: { destination: { address: '10.65.0.3', port: 8080 } },
      timeoutSeconds: 432_000,
      status: ['seen-reply', 'assured', 'confirmed'],
      tcp: { state: 'established', original: side, reply: side },
    });
  });

  test('of which nothing was translated says so by silence; of which all was, by both halves', () => {
    expect(entryOfFlow({ ...flow, delivered: flow.asked }, timeouts)).not.toHaveProperty('nat');
    const both = { ...flow, delivered: { ...flow.delivered, source: '10.0.0.1', sourcePort: 61_000 } };
    expect(entryOfFlow(both, timeouts)).toMatchObject({
      nat: { source: { address: '10.0.0.1', port: 61_000 }, destination: { address: '10.65.0.3', port: 8080 } },
    });
  });

  test('that is opened just now is of a connection, but lives as long as a handshake may take', () => {
    expect(entryOfFlow({ ...flow, state: 'opening' }, timeouts)).toMatchObject({
      timeoutSeconds: 60,
      tcp: { state: 'established' },
    });
  });

  test('that closes is in fin-wait, and knows by whom', () => {
    const closing = { ...flow, state: 'closing' } as const;
    expect(entryOfFlow({ ...closing, finished: { opener: false, other: true } }, timeouts)).toMatchObject({
      timeoutSeconds: 120,
      tcp: { state: 'fin-wait', original: side, reply: closed },
    });
    expect(entryOfFlow({ ...closing, finished: { opener: true, other: false } }, timeouts)).toMatchObject({
      tcp: { state: 'fin-wait', original: closed, reply: side },
    });
  });

  test.each<[Partial<Flow>, string]>([
    [{ state: 'new' }, 'nobody has answered'],
    [{ state: 'closed' }, 'closed'],
    [{ protocol: 1 }, 'ICMP: the next request makes an entry'],
    [{ protocol: 58 }, 'ICMP: the next request makes an entry'],
    [{ protocol: 132 }, 'SCTP: its verification tags are not known'],
    [{ bound: 'a helper follows it' }, 'a helper follows it'],
  ])('can not be made of %j', (more, reason) => {
    expect(entryOfFlow({ ...flow, ...more }, timeouts)).toBe(reason);
  });

  test('lives as long as the sysctls say', () => {
    const read = (path: string) => (path.endsWith('udp_timeout_stream') ? '77' : 'soon');
    expect(entryTimeouts(read)).toEqual({
      tcpSynRecv: 60,
      tcpEstablished: 432_000,
      tcpFinWait: 120,
      udpStream: 77,
      generic: 600,
    });
    expect(entryOfFlow(flowOfEntry(udp), entryTimeouts(read))).toMatchObject({ timeoutSeconds: 77 });
    expect(entryOfFlow({ ...flow, protocol: 47 }, timeouts)).toMatchObject({ timeoutSeconds: 600 });
  });
});
