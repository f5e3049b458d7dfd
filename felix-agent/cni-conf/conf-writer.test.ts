import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeClock } from '#api/fake-clock.ts';
import { createLog } from '../log.ts';
import { CniConfWriter, type CniConfParts } from './conf-writer.ts';
import { conflistText } from './conflist.ts';

const log = createLog('test', { write: () => {} });

let dir: string;
let path: string;
let clock: FakeClock;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), `tt${process.pid}-conf-`));
  mkdirSync(join(dir, 'net.d'));
  mkdirSync(join(dir, 'state'));
  path = join(dir, 'net.d/10-tortie.conflist');
  clock = new FakeClock();
});
afterEach(() => rmSync(dir, { recursive: true }));

/** A writer, and a way to let its next look come and be done. */
function writer(parts: Partial<CniConfParts> = {}) {
  const made = new CniConfWriter({
    dir: join(dir, 'net.d'),
    stateDir: join(dir, 'state'),
    clock,
    log,
    text: () => 'first\n',
    whyNot: async () => undefined,
    ...parts,
  });
  const look = async (): Promise<void> => {
    clock.advance(clock.nextInMs ?? 0);
    while (clock.pending === 0) await new Promise(setImmediate);
  };
  return { made, look };
}
const text = () => (existsSync(path) ? readFileSync(path, 'utf8') : undefined);

describe('the configuration', () => {
  test('comes when the socket says that pods can be wired, not before, and says why meanwhile', async () => {
    let reason: string | undefined = 'no dataplane is active yet';
    const { made, look } = writer({ whyNot: async () => reason });
    made.start();
    await look();
    expect([text(), made.failures]).toEqual([undefined, [`${path} is not written yet: no dataplane is active yet`]]);
    reason = undefined;
    await look();
    expect([text(), made.failures]).toEqual(['first\n', []]);
  });

  test('is put back when it is deleted, though the socket is busy by then', async () => {
    let asked = 0;
    const { made, look } = writer({ whyNot: async () => (asked++ === 0 ? undefined : 'busy') });
    made.start();
    await look();
    rmSync(path);
    await look();
    expect([text(), asked]).toEqual(['first\n', 1]);
  });

  test('is written anew when it must be another, also what an earlier agent wrote', async () => {
    let wanted = 'first\n';
    const earlier = writer({ text: () => wanted });
    earlier.made.start();
    await earlier.look();
    wanted = 'second\n';
    await earlier.look();
    expect(text()).toBe('second\n');
    earlier.made[Symbol.dispose]();
    const next = writer({ text: () => 'third\n' });
    next.made.start();
    await next.look();
    expect(text()).toBe('third\n');
  });

  test('stays when pools are gone for a while: pods that are there need it for their DEL', async () => {
    let wanted: string | undefined = 'first\n';
    const { made, look } = writer({ text: () => wanted });
    made.start();
    await look();
    wanted = undefined;
    await look();
    expect(text()).toBe('first\n');
  });

  test("is never written over somebody else's, which is said; once that is gone it comes", async () => {
    writeFileSync(path, 'edited\n');
    const { made, look } = writer();
    made.start();
    await look();
    expect(text()).toBe('edited\n');
    expect(made.failures).toEqual([expect.stringContaining('was changed by somebody else and is left as it is')]);
    rmSync(path);
    await look();
    expect([text(), made.failures]).toEqual(['first\n', []]);
  });

  test('that is equal to what we would write is ours, also after the state dir was lost', async () => {
    writeFileSync(path, 'first\n');
    let wanted = 'first\n';
    const { made, look } = writer({ text: () => wanted });
    made.start();
    await look();
    wanted = 'second\n';
    await look();
    expect(text()).toBe('second\n');
  });

  test('names what the runtime would take instead, and no more when it is gone', async () => {
    for (const name of ['00-multus.conf', '05-cilium.conflist', '87-podman.conflist', '01-readme.txt']) {
      writeFileSync(join(dir, 'net.d', name), '{}');
    }
    const { made, look } = writer();
    made.start();
    await look();
    expect(made.failures.map((failure) => failure.replace(/ sorts.*/, ''))).toEqual([
      join(dir, 'net.d/00-multus.conf'),
      join(dir, 'net.d/05-cilium.conflist'),
    ]);
    for (const name of readdirSync(join(dir, 'net.d')).filter((name) => name.startsWith('0')))
      rmSync(join(dir, 'net.d', name));
    await look();
    expect(made.failures).toEqual([]);
  });

  test('that cannot be written is said with the reason, and tried again', async () => {
    rmSync(join(dir, 'net.d'), { recursive: true });
    const { made, look } = writer();
    made.start();
    await look();
    expect(made.failures).toEqual([expect.stringContaining(`can't write ${path}: ENOENT`)]);
    mkdirSync(join(dir, 'net.d'));
    await look();
    expect([text(), made.failures]).toEqual(['first\n', []]);
  });

  test('is left alone by a writer that was ended', async () => {
    const { made, look } = writer();
    made.start();
    await look();
    made[Symbol.dispose]();
    rmSync(path);
    clock.advance(60_000);
    await new Promise(setImmediate);
    expect([text(), clock.pending]).toEqual([undefined, 0]);
  });
});

describe('its text', () => {
  const base = { version: '1.0.0', mtu: undefined, has4: true, has6: false, socket: '/run/tortie/cni.sock' } as const;

  test('is a chain of ourselves and portmap', () => {
    expect(JSON.parse(conflistText(base) ?? '')).toEqual({
      cniVersion: '1.0.0',
      name: 'k8s-pod-network',
      plugins: [
        { type: 'tortie', ipam: { type: 'tortie', assign_ipv4: 'true', assign_ipv6: 'false' } },
        { type: 'portmap', snat: true, capabilities: { portMappings: true } },
      ],
    });
  });

  test('says what differs from the default', () => {
    const text = conflistText({ version: '1.1.0', mtu: 1400, has4: false, has6: true, socket: '/x/cni.sock' });
    expect(JSON.parse(text ?? '')).toMatchObject({
      cniVersion: '1.1.0',
      plugins: [{ mtu: 1400, socket: '/x/cni.sock', ipam: { assign_ipv4: 'false', assign_ipv6: 'true' } }, {}],
    });
  });

  test('is none while pods could get no address', () => {
    expect(conflistText({ ...base, has4: false })).toBeUndefined();
  });
});
