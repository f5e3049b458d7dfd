import { describe, expect, test } from '@jest/globals';
import { proveNat } from '#native/conntrack-nat-proof.ts';
import { openConntrackTable, sameEntryAgain } from '#native/conntrack-table.ts';
import type { ConntrackEntry, NewConntrackEntry } from '#native/conntrack-types.ts';
import type { RunningStream } from '#test/lab/peer-client.ts';
import { createNetns } from '#test/lab/netns.ts';
import { entriesOf, eventually, RouterLab, routerFamilies, serverPort, servicePort } from './native-conntrack-lab.ts';

const protocols = [
  { protocol: 'tcp', number: 6 },
  { protocol: 'udp', number: 17 },
] as const;

const rows = routerFamilies.flatMap((row) => protocols.map((protocol) => ({ ...row, ...protocol, row })));

/** A flow's messages so far, answered. */
const answered = async (stream: RunningStream): Promise<number> => (await stream.progress()).answered;

/** Waits for some more answers. */
async function goesOn(stream: RunningStream): Promise<void> {
  const before = await answered(stream);
  await eventually(async () => (await answered(stream)) > before + 5);
}

const again = (entries: readonly ConntrackEntry[]): NewConntrackEntry[] =>
  entries.map((entry) => {
    const made = sameEntryAgain(entry);
    if (!made) throw new Error(`can't be made again: ${JSON.stringify(entry)}`);
    return made;
  });

describe.each(rows)('a running $protocol flow, IPv$family', ({ row, protocol, number, service, client }) => {
  test('is translated by an entry that was made from data, without a rule for it', async () => {
    await using lab = await RouterLab.start();
    await lab.translate(row);
    const stream = await lab.client.stream(service, 10, { protocol, port: servicePort });
    await goesOn(stream);
    await lab.onlyHooks(row);
    const before = await lab.serviceEntries(row, number);
    expect(before).toMatchObject([
      {
        original: { source: client, destination: service, destinationPort: servicePort },
        nat: { source: { address: row.toServer }, destination: { address: row.server, port: serverPort } },
      },
    ]);
    using table = openConntrackTable(lab.ref);
    const marked = again(before).map((entry) => ({ ...entry, mark: 0xfeed }));
    expect(await table.replace(marked)).toEqual([{ ok: true, replaced: ['original'] }]);
    await goesOn(stream);
    const { original, reply, nat } = before[0]!;
    expect(await lab.serviceEntries(row, number)).toMatchObject([{ original, reply, nat, mark: 0xfeed }]);
    const { sent, answered, failure } = await stream.stop();
    expect({ answered, failure }).toEqual({ answered: sent, failure: null });
    expect(await lab.invalidPackets(row)).toBe(0);
  });

  test('that was taken up untranslated is refused by create and mended by replace', async () => {
    await using lab = await RouterLab.start();
    await lab.translate(row);
    const stream = await lab.client.stream(service, 10, { protocol, port: servicePort });
    await goesOn(stream);
    await lab.onlyHooks(row);
    using table = openConntrackTable(lab.ref);
    const entries = await lab.serviceEntries(row, number);
    expect(await table.delete(entries)).toEqual([{ ok: true, existed: true }]);
    await eventually(async () => (await lab.serviceEntries(row, number)).length > 0);
    // Without its entry it isn't translated.
    expect((await lab.serviceEntries(row, number))[0]!.nat).toBeUndefined();
    expect(await table.create(again(entries))).toMatchObject([
      { ok: false, error: { code: 'EEXIST', object: expect.stringContaining(`conntrack.create ${protocol} `) } },
    ]);
    const [outcome] = await table.replace(again(entries));
    expect(outcome).toMatchObject({ ok: true, replaced: expect.arrayContaining(['original']) });
    await goesOn(stream);
    expect((await stream.stop()).failure).toBeNull();
  });

  test('is not translated by an entry that says no translation', async () => {
    await using lab = await RouterLab.start();
    await lab.translate(row);
    const stream = await lab.client.stream(service, 10, { protocol, port: servicePort });
    await goesOn(stream);
    await lab.onlyHooks(row);
    using table = openConntrackTable(lab.ref);
    const entries = await lab.serviceEntries(row, number);
    const { nat: _nat, ...untranslated } = again(entries)[0]!;
    expect(await table.replace([untranslated])).toMatchObject([{ ok: true }]);
    const { sent } = await stream.progress();
    await eventually(async () => (await stream.progress()).sent > sent + 10);
    const { answered } = await stream.progress();
    expect((await lab.serviceEntries(row, number))[0]!.nat).toBeUndefined();
    expect(answered).toBeLessThan(sent + 10);
    await stream.stop();
  });
});

describe.each(routerFamilies)('traffic of IPv$family', ({ family, ...row }) => {
  test('ICMP entries carry id, type and code, and can be made again and deleted', async () => {
    await using lab = await RouterLab.start();
    await lab.translate({ family, ...row });
    await lab.client.probe(row.service, { port: servicePort });
    const ping = await createPing(lab, row.server);
    expect(ping).toMatchObject({
      original: { source: row.toServer, destination: row.server, icmp: { type: family === 4 ? 8 : 128, code: 0 } },
      reply: { source: row.server, destination: row.toServer, icmp: { type: family === 4 ? 0 : 129, code: 0 } },
    });
    expect(ping.reply.icmp!.id).toBe(ping.original.icmp!.id);
    using table = openConntrackTable(lab.ref);
    const nat = { source: { address: row.toClient, port: 4711 } };
    expect(await table.replace([{ ...again([ping])[0]!, nat }])).toEqual([{ ok: true, replaced: ['original'] }]);
    const made = (await entriesOf(family, lab.ref)).find(({ original }) => original.icmp);
    expect(made).toMatchObject({ nat, reply: { destination: row.toClient, icmp: { id: 4711 } } });
    expect(await table.delete([made!])).toEqual([{ ok: true, existed: true }]);
  });
});

describe.each(routerFamilies)('the proof of translation, IPv$family', ({ family, table }) => {
  test('is what a datagram shows: not without rules, not with empty chains, but with a rule', async () => {
    await using ns = await createNetns();
    const ref = { path: ns.path };
    expect(await proveNat(family, ref)).toMatchObject({
      state: 'unknown',
      reason: expect.stringContaining('loopback'),
    });
    await ns.exec('ip', 'link', 'set', 'lo', 'up');
    expect(await proveNat(family, ref)).toEqual({ state: 'inactive' });
    await ns.exec('nft', `table ${table} t { chain pre { type nat hook prerouting priority -100; }; }`);
    expect(await proveNat(family, ref)).toEqual({ state: 'inactive' });
    await ns.exec('nft', `add rule ${table} t pre ct state established accept`);
    expect(await proveNat(family, ref)).toEqual({ state: 'active' });
    // It leaves no entry behind.
    expect(await entriesOf(family, ref)).toEqual([]);
  });

  test('an iptables rule will do as well', async () => {
    await using ns = await createNetns();
    const ref = { path: ns.path };
    await ns.exec('ip', 'link', 'set', 'lo', 'up');
    await ns.exec(`${table}tables`, '-t', 'nat', '-A', 'POSTROUTING', '-o', 'none0', '-j', 'MASQUERADE');
    expect(await proveNat(family, ref)).toEqual({ state: 'active' });
  });

  test('proves nothing when a rule drops what goes over loopback', async () => {
    await using ns = await createNetns();
    await ns.exec('ip', 'link', 'set', 'lo', 'up');
    await ns.exec('nft', `table ${table} t { chain in { type filter hook input priority 0; iif lo drop; }; }`);
    expect(await proveNat(family, { path: ns.path })).toMatchObject({ state: 'unknown' });
  });
});

test('the proof is for a family that there is', async () => {
  await expect(async () => await proveNat(5 as 4)).rejects.toMatchObject({ code: 'EINVAL', syscall: 'encode' });
});

/** The entry of a ping from the router. */
async function createPing(lab: RouterLab, to: string): Promise<ConntrackEntry> {
  await lab.router.exec('ping', '-c', '1', '-W', '5', to);
  const entries = await entriesOf(to.includes(':') ? 6 : 4, lab.ref);
  const ping = entries.find(({ original }) => original.icmp !== undefined && original.destination === to);
  if (!ping) throw new Error(`no entry of a ping to ${to}`);
  return ping;
}
