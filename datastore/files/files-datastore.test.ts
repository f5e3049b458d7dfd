import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock, type Clock } from '#api/clock.ts';
import { FakeClock } from '#api/fake-clock.ts';
import { describeDatastore, eventText, take } from '../contract-suite.ts';
import { counted, countOf, endpoint, handle } from '../objects-for-tests.ts';
import { openFilesDatastore, type FilesDatastore, type FilesDatastoreOptions } from './files-datastore.ts';
import { ProcessLocalLock } from './lock-for-tests.ts';

let dir: string;
let lock: ProcessLocalLock;
let stores: FilesDatastore[];
let logged: string[];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tt-files-'));
  lock = new ProcessLocalLock();
  stores = [];
  logged = [];
});
afterEach(async () => {
  await Promise.all(stores.map((store) => store[Symbol.asyncDispose]()));
  rmSync(dir, { recursive: true });
});

async function open(options: Partial<FilesDatastoreOptions> = {}): Promise<FilesDatastore> {
  const log = (level: string, message: string): void => void logged.push(`${level}: ${message}`);
  const store = await openFilesDatastore({
    dir,
    lock,
    clock: systemClock,
    log,
    settleMs: 10,
    removalMs: 100,
    ...options,
  });
  stores.push(store);
  return store;
}

/** YAML of a handle. */
function yaml(name: string, count = 0, extra = ''): string {
  return `apiVersion: projectcalico.org/v3
kind: IPAMHandle
metadata:
  name: ${name}
spec:
  handleID: ${name}
  block: {10.65.0.0/26: ${count}}
${extra}`;
}

function put(file: string, ...documents: string[]): void {
  mkdirSync(dirname(join(dir, file)), { recursive: true });
  writeFileSync(join(dir, file), documents.join('---\n'));
}

/** Handles as `name=count`, in order of their names. */
async function handles(store: FilesDatastore): Promise<string[]> {
  const { items } = await store.list('IPAMHandle');
  return items.map((object) => `${object.metadata.name}=${countOf(object)}`).sort();
}

/** Waits until `state` is as expected; the test's own time limit ends a wait in vain. */
async function until(what: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await what())) {
    await sleep(5);
  }
}

function untilHandles(store: FilesDatastore, ...expected: string[]): Promise<void> {
  return until(async () => (await handles(store)).join() === expected.join());
}

// The folder is made and removed around each test of this file.
describeDatastore('files', async () => ({ store: await open(), close: () => Promise.resolve() }));

describe("users' files", () => {
  test('are read from all folders and in all forms, and only by their suffix', async () => {
    put('a.yaml', yaml('a1'), '', '# nothing\n', yaml('a2', 2));
    put('deep/er/b.yml', `apiVersion: v1\nkind: List\nitems:\n- ${yaml('b1').replaceAll('\n', '\n  ')}\n`);
    put('c.json', JSON.stringify(handle('c', 3), null, '\t'));
    put('d.txt', yaml('no'));
    put('.hidden/e.yaml', yaml('no'));
    put('.f.yaml.swp', yaml('no'));
    const store = await open();
    expect(await handles(store)).toEqual(['a1=0', 'a2=2', 'b1=0', 'c=3']);
    expect(store.problems()).toEqual([]);
  });

  test('are never written: an attempt names the place', async () => {
    put('a.yaml', yaml('a'), yaml('b'));
    const text = readFileSync(join(dir, 'a.yaml'), 'utf8');
    const store = await open();
    const b = await store.get('IPAMHandle', { name: 'b' });
    const message = expect.stringContaining(`${dir}/a.yaml document 2 (line 9)`);
    await expect(store.update('IPAMHandle', counted(b!, 1))).rejects.toMatchObject({ code: 'read-only', message });
    await expect(store.delete('IPAMHandle', { name: 'b' })).rejects.toMatchObject({ code: 'read-only', message });
    await expect(store.create('IPAMHandle', handle('b'))).rejects.toMatchObject({ code: 'already-exists', message });
    expect(readFileSync(join(dir, 'a.yaml'), 'utf8')).toBe(text);
  });

  test('give objects the same uid and resourceVersion in every process, and another resourceVersion with other content', async () => {
    put('a.yaml', yaml('a'));
    const [one, two] = [await open(), await open()];
    const first = await one.get('IPAMHandle', { name: 'a' });
    expect(first?.metadata).toEqual((await two.get('IPAMHandle', { name: 'a' }))?.metadata);
    put('a.yaml', yaml('a', 1));
    await untilHandles(one, 'a=1');
    const second = await one.get('IPAMHandle', { name: 'a' });
    expect(second?.metadata.uid).toBe(first?.metadata.uid);
    expect(second?.metadata.resourceVersion).not.toBe(first?.metadata.resourceVersion);
  });

  test('changes are seen as one event each, whatever the editor does', async () => {
    put('a.yaml', yaml('a'), yaml('b'));
    // However long a busy machine takes between two of its steps.
    const store = await open({ removalMs: 3_600_000 });
    const { resourceVersion } = await store.list('IPAMHandle');
    const seen = take(store, resourceVersion, 3);
    // Rename-over, as by sed -i.
    put('new', yaml('a', 1), yaml('b'));
    renameSync(join(dir, 'new'), join(dir, 'a.yaml'));
    await untilHandles(store, 'a=1', 'b=0');
    // The old file moved away, then a new one made, as by vim.
    renameSync(join(dir, 'a.yaml'), join(dir, 'a.yaml~'));
    await sleep(30);
    put('a.yaml', yaml('a', 2), yaml('b'));
    await untilHandles(store, 'a=2', 'b=0');
    // Truncated, then written.
    put('a.yaml', '');
    await sleep(30);
    put('a.yaml', yaml('a', 3), yaml('b'));
    await untilHandles(store, 'a=3', 'b=0');
    expect(await seen).toEqual(['modified a=1', 'modified a=2', 'modified a=3']);
  });

  test('a file is read when it has been quiet for long enough, and not before', async () => {
    const { clock, advance } = manualClock();
    put('a.yaml', yaml('a'));
    const store = await open({ clock });
    put('a.yaml', yaml('a', 1));
    await sleep(50); // Its events have come, but the store's time stands still.
    expect(await handles(store)).toEqual(['a=0']);
    await until(async () => advance(1) && (await handles(store)).join() === 'a=1');
  });

  test('a slow writer removes nothing on its way', async () => {
    const text = [yaml('a'), yaml('b'), yaml('c', 1)].join('---\n');
    put('a.yaml', yaml('a'), yaml('b'), yaml('c'));
    const { clock, advance } = manualClock();
    const store = await open({ clock });
    const { resourceVersion } = await store.list('IPAMHandle');
    let isSeen = false;
    const seen = take(store, resourceVersion, 1).finally(() => (isSeen = true));
    // By the store's time longer than a removal takes, and each step shorter.
    for (let end = 0; end < text.length; end += 40) {
      writeFileSync(join(dir, 'a.yaml'), text.slice(0, end));
      await sleep(15);
      advance(20);
    }
    put('a.yaml', text);
    await until(() => advance(5) && isSeen);
    expect(await seen).toEqual(['modified c=1']);
    expect(await handles(store)).toEqual(['a=0', 'b=0', 'c=1']);
  });

  test('removing a document, a file or a folder removes its objects', async () => {
    put('a.yaml', yaml('a1'), yaml('a2'));
    put('b.yaml', yaml('b'));
    put('c/c.yaml', yaml('c'));
    const store = await open();
    const seen = take(store, (await store.list('IPAMHandle')).resourceVersion, 3);
    put('a.yaml', yaml('a1'));
    rmSync(join(dir, 'b.yaml'));
    rmSync(join(dir, 'c'), { recursive: true });
    await untilHandles(store, 'a1=0');
    expect((await seen).sort()).toEqual(['deleted a2=0', 'deleted b=0', 'deleted c=0']);
    put('c/c.yaml', yaml('c', 1));
    await untilHandles(store, 'a1=0', 'c=1');
  });

  test('moving an object to another file changes nothing', async () => {
    put('a.yaml', yaml('a'));
    const store = await open();
    const { resourceVersion } = await store.list('IPAMHandle');
    renameSync(join(dir, 'a.yaml'), join(dir, 'b.yaml'));
    await until(async () =>
      store.create('IPAMHandle', handle('a')).then(
        () => false,
        (error: Error) => error.message.includes('b.yaml'),
      ),
    );
    await sleep(150);
    put('c.yaml', yaml('c'));
    expect(await take(store, resourceVersion, 1)).toEqual(['added c=0']);
    expect(store.problems()).toEqual([]);
  });

  test.each<[string, string, RegExp]>([
    ['is no YAML', 'a: [', /a\.yaml can't be used: document 1, line \d+: /],
    ['has a broken document among good ones', `${yaml('a', 9)}---\nb: "\n---\n${yaml('b')}`, /document 2, line \d+: /],
    ['has a duplicate key', yaml('a', 1, 'kind: x\n'), /document 1, line 8: /],
    ['is not UTF-8', '\uFFFD', /a\.yaml can't be used: /],
    [
      'expands without end',
      `a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [${'*a,'.repeat(30)}]\nc: [${'*b,'.repeat(30)}]\n`,
      /[Ee]xcessive alias/,
    ],
  ])('a file that %s keeps the last good state until it is repaired', async (what, text, message) => {
    put('a.yaml', yaml('a'), yaml('b', 1));
    const store = await open();
    writeFileSync(join(dir, 'a.yaml'), what === 'is not UTF-8' ? Buffer.from([0xff, 0xfe, 0x0a]) : text);
    await until(() => store.problems().length > 0);
    expect(store.problems()).toEqual([
      {
        source: `${dir}/a.yaml`,
        objects: ['IPAMHandle a', 'IPAMHandle b'],
        message: expect.stringMatching(message),
        effect: 'last-valid',
      },
    ]);
    expect(await handles(store)).toEqual(['a=0', 'b=1']);
    put('a.yaml', yaml('a', 5));
    await untilHandles(store, 'a=5');
    expect(store.problems()).toEqual([]);
    expect(logged.map((line) => line.split(':')[0])).toEqual(['warn', 'info']);
  });

  test('an invalid document keeps the last good state of its object, and the others go on', async () => {
    put('a.yaml', yaml('a'), yaml('b'));
    const store = await open();
    put('a.yaml', yaml('a', 1), yaml('b', -1));
    await untilHandles(store, 'a=1', 'b=0');
    expect(store.problems()).toEqual([
      {
        source: `${dir}/a.yaml`,
        objects: ['IPAMHandle b'],
        message: expect.stringMatching(/document 2 \(line 9\).*spec\.block.*; its last valid version stays in force$/),
        effect: 'last-valid',
      },
    ]);
    put('a.yaml', yaml('a', 1), yaml('b', 2));
    await untilHandles(store, 'a=1', 'b=2');
    expect(store.problems()).toEqual([]);
  });

  test('a document that nobody can name keeps what may have been it', async () => {
    put('a.yaml', yaml('a'), yaml('b'));
    const store = await open();
    put('a.yaml', yaml('a', 1), yaml('b').replace('name: b', 'nam: b'));
    await untilHandles(store, 'a=1', 'b=0');
    await sleep(150);
    expect(await handles(store)).toEqual(['a=1', 'b=0']);
    expect(store.problems()).toMatchObject([{ objects: [], message: expect.stringContaining('document 2') }]);
  });

  test('a file with a broken document that was never good gives its other documents, until it is mended', async () => {
    const good = (name: string) =>
      `apiVersion: projectcalico.org/v3\nkind: IPReservation\nmetadata: {name: ${name}}\nspec: {reservedCIDRs: []}\n`;
    writeFileSync(join(dir, 'mixed.yaml'), `${good('first')}---\na: [\n---\n${good('third')}`);
    const store = await open();
    const names = async () => (await store.list('IPReservation')).items.map(({ metadata }) => metadata.name).toSorted();
    expect(await names()).toEqual(['first', 'third']);
    const problem = {
      objects: [],
      effect: 'ignored',
      message: expect.stringMatching(
        /mixed\.yaml can't be used whole: document 2, line \d+: .*in force until it is mended/,
      ),
    };
    expect(store.problems()).toMatchObject([problem]);
    writeFileSync(join(dir, 'mixed.yaml'), `${good('fourth')}---\na: [\n---\n${good('third')}`);
    await until(async () => (await names()).includes('fourth'));
    expect(await names()).toEqual(['first', 'fourth', 'third']);
    expect(store.problems()).toMatchObject([problem]);
    writeFileSync(join(dir, 'mixed.yaml'), `${good('first')}---\n${good('second')}---\n${good('third')}`);
    await until(async () => (await names()).join() === 'first,second,third');
    expect(store.problems()).toEqual([]);
  });

  test('an object in two places keeps its last good state, and the problem names both', async () => {
    put('a.yaml', yaml('a'));
    const store = await open();
    put('b.yaml', yaml('x'), yaml('a', 1));
    await untilHandles(store, 'a=0', 'x=0');
    expect(store.problems()).toEqual([
      {
        source: `${dir}/a.yaml`,
        objects: ['IPAMHandle a'],
        message: expect.stringMatching(/a\.yaml document 1 \(line 1\) and in .*b\.yaml document 2 \(line 9\)/),
        effect: 'last-valid',
      },
    ]);
    put('a.yaml', yaml('a', 7)); // Of two places none is better: still the last good state.
    await sleep(100);
    expect(await handles(store)).toEqual(['a=0', 'x=0']);
    rmSync(join(dir, 'a.yaml'));
    await untilHandles(store, 'a=1', 'x=0');
    expect(store.problems()).toEqual([]);
  });

  test('an object twice in one file from the start is in force nowhere', async () => {
    put('a.yaml', yaml('a'), yaml('a', 1), yaml('b'));
    const store = await open();
    expect(await handles(store)).toEqual(['b=0']);
    expect(store.problems()).toMatchObject([
      { objects: ['IPAMHandle a'], message: expect.stringContaining('none is in force') },
    ]);
  });

  test('of an object of ours that also stands in a file, ours stays in force', async () => {
    const store = await open();
    const own = await store.create('IPAMHandle', handle('a', 1));
    put('a.yaml', yaml('a', 2), yaml('b'));
    await untilHandles(store, 'a=1', 'b=0');
    expect(store.problems()).toMatchObject([
      { objects: ['IPAMHandle a'], message: expect.stringContaining('a.yaml document 1') },
    ]);
    await store.update('IPAMHandle', counted(own, 3));
    const seen = take(store, (await store.list('IPAMHandle')).resourceVersion, 2);
    await store.delete('IPAMHandle', { name: 'a' });
    expect(await seen).toEqual(['deleted a=3', 'added a=2']);
    expect(await handles(await open())).toEqual(['a=2', 'b=0']);
  });

  test('kinds and fields that nobody knows are passed over, and listed', async () => {
    put(
      'a.yaml',
      'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n',
      yaml('a').replace('handleID', 'typo: 1\n  handleID'),
    );
    const store = await open();
    expect(await handles(store)).toEqual(['a=0']);
    expect(store.problems()).toEqual([]);
    expect(store.ignored()).toEqual([
      `${dir}/a.yaml document 1 (line 1): Deployment of apps/v1 is no kind that we read`,
      `${dir}/a.yaml document 2 (line 5): IPAMHandle a: the field spec.typo is unknown`,
    ]);
  });

  test('symbolic links are not followed', async () => {
    const secret = join(dir, '.secret');
    writeFileSync(secret, 'root: secret: x\n');
    symlinkSync(secret, join(dir, 'a.yaml'));
    symlinkSync('/etc', join(dir, 'etc'));
    put('b.yaml', yaml('b'));
    const store = await open();
    expect(await handles(store)).toEqual(['b=0']);
    expect(store.problems().map(({ source }) => source)).toEqual([`${dir}/a.yaml`, `${dir}/etc`]);
    expect(JSON.stringify(store.problems())).not.toContain('secret: x');
  });

  test('without inotify a rescan finds every change', async () => {
    const { clock, advance } = manualClock();
    put('a.yaml', yaml('a'));
    const deaf = { [Symbol.dispose]: () => {} };
    const store = await open({ clock, watchFolder: () => deaf });
    const other = await open();
    const seen = take(store, (await store.list('IPAMHandle')).resourceVersion, 3);
    put('a.yaml', yaml('a', 1));
    await other.create('IPAMHandle', handle('b'));
    await until(() => advance(1000));
    await until(async () => advance(1000) && (await handles(store)).join() === 'a=1,b=0');
    rmSync(join(dir, 'a.yaml'));
    await until(async () => advance(1000) && (await handles(store)).join() === 'b=0');
    expect((await seen).sort()).toEqual(['added b=0', 'deleted a=1', 'modified a=1']);
  });

  test('a folder that is away leaves everything in force, and is taken up again', async () => {
    const { clock, advance } = manualClock();
    put('data/a.yaml', yaml('a'));
    const store = await open({ dir: join(dir, 'data'), clock });
    const own = await store.create('IPAMHandle', handle('own'));
    const { resourceVersion } = await store.list('IPAMHandle');
    renameSync(join(dir, 'data'), join(dir, 'away'));
    mkdirSync(join(dir, 'data')); // As where a disk was mounted.
    await until(() => advance(1000) && store.problems().length > 0);
    expect(store.problems()).toMatchObject([
      { source: join(dir, 'data'), message: expect.stringContaining('is unavailable: ENOENT') },
    ]);
    expect(await handles(store)).toEqual(['a=0', 'own=0']);
    await expect(store.get('IPAMHandle', { name: 'own' })).rejects.toMatchObject({ code: 'unavailable' });
    await expect(store.update('IPAMHandle', counted(own, 1))).rejects.toMatchObject({ code: 'unavailable' });
    rmSync(join(dir, 'data'), { recursive: true });
    renameSync(join(dir, 'away'), join(dir, 'data'));
    put('data/b.yaml', yaml('b'));
    await until(async () => advance(1000) && (await handles(store)).join() === 'a=0,b=0,own=0');
    expect(await take(store, resourceVersion, 1)).toEqual(['added b=0']);
    expect(store.problems()).toEqual([]);
  });
});

describe('objects of ours', () => {
  test("another process' writes are seen as events and in listings", async () => {
    const [one, two] = [await open(), await open()];
    const { resourceVersion } = await two.list('IPAMHandle');
    const seen = take(two, resourceVersion, 3);
    const created = await one.create('IPAMHandle', handle('a'));
    expect(await two.get('IPAMHandle', { name: 'a' })).toEqual(created);
    expect(await handles(two)).toEqual(['a=0']);
    await two.list('IPAMHandle');
    await one.update('IPAMHandle', counted(created, 1));
    await until(async () => (await handles(two)).join() === 'a=1');
    await one.delete('IPAMHandle', { name: 'a' });
    expect(await seen).toEqual(['added a=0', 'modified a=1', 'deleted a=1']);
  });

  test('are there after a restart, as they were', async () => {
    const one = await open();
    const created = await one.create('WorkloadEndpoint', endpoint('x', 'y'));
    expect(await (await open()).get('WorkloadEndpoint', { namespace: 'x', name: 'y' })).toEqual(created);
  });

  test('many writes at once all arrive, each under a resourceVersion of its own', async () => {
    const store = await open();
    const created = await Promise.all(
      Array.from({ length: 1000 }, (_, index) => store.create('IPAMHandle', handle(`h${index}`))),
    );
    expect(new Set(created.map(({ metadata }) => metadata.resourceVersion)).size).toBe(1000);
    expect(await handles(await open())).toHaveLength(1000);
    expect(readdirSync(join(dir, '.tortie/tmp'))).toEqual([]);
  });

  test('a resourceVersion is never given out again, not even when the counter was set back', async () => {
    const store = await open();
    const a = await store.create('IPAMHandle', handle('a'));
    await store.delete('IPAMHandle', { name: 'a' });
    const b = await store.create('IPAMHandle', handle('b'));
    const c = await store.create('IPAMHandle', handle('c'));
    for (const text of ['', '0000000000000001\n', 'junk']) {
      writeFileSync(join(dir, '.tortie/revision'), text);
      const next = await (await open()).create('IPAMHandle', handle(`n${text.length}`));
      const used = [a, b, c].map(({ metadata }) => Number(metadata.resourceVersion));
      expect(Number(next.metadata.resourceVersion)).toBeGreaterThan(Math.max(...used));
    }
  });

  test('what killed writers left is swept', async () => {
    const { clock, advance } = manualClock();
    await open({ clock });
    const leftover = join(dir, '.tortie/tmp/99-1');
    const swept = (): boolean => !readdirSync(dirname(leftover)).includes('99-1');
    writeFileSync(leftover, '{"half');
    await until(() => advance(1000) && swept());
    writeFileSync(leftover, '{"half');
    await open();
    expect(swept()).toBe(true);
  });

  test('a broken file is reported, never taken for missing, and taken up when repaired', async () => {
    const store = await open();
    const created = await store.create('IPAMHandle', handle('a', 1));
    const file = join(dir, '.tortie/IPAMHandle/a.json');
    const text = readFileSync(file, 'utf8');
    for (const broken of ['', '{', text.replace('"a"', '"b"'), text.replace('"resourceVersion"', '"x"')]) {
      writeFileSync(file, broken);
      await expect(store.get('IPAMHandle', { name: 'a' })).rejects.toMatchObject({ code: 'unavailable' });
      await expect(store.create('IPAMHandle', handle('a'))).rejects.toMatchObject({ code: 'unavailable' });
      await expect(store.update('IPAMHandle', counted(created, 2))).rejects.toMatchObject({ code: 'unavailable' });
      expect(await handles(store)).toEqual(['a=1']);
      expect(store.problems()).toMatchObject([{ source: file, objects: ['IPAMHandle a'] }]);
    }
    writeFileSync(file, text);
    expect(await handles(store)).toEqual(['a=1']);
    expect(store.problems()).toEqual([]);
  });

  test('a file that changed without looking changed is read again', async () => {
    const store = await open();
    const created = await store.create('IPAMHandle', handle('a', 1));
    const file = join(dir, '.tortie/IPAMHandle/a.json');
    const time = Date.now() / 1000 + 3600; // Too young to be trusted, however late it is read.
    utimesSync(file, time, time);
    expect(await handles(store)).toEqual(['a=1']);
    writeFileSync(
      file,
      JSON.stringify(counted({ ...created, metadata: { ...created.metadata, resourceVersion: '9' } }, 2)) + '\n',
    );
    utimesSync(file, time, time); // Same inode, size and time, as after two replacements in one tick of the kernel's clock.
    expect(await handles(store)).toEqual(['a=2']);
  });

  test('a write that fails says why, leaves nothing behind and stops no other', async () => {
    const store = await open();
    mkdirSync(join(dir, '.tortie/IPAMHandle/a.json'), { recursive: true });
    const [failed, done] = await Promise.allSettled([
      store.create('IPAMHandle', handle('a')),
      store.create('IPAMHandle', handle('b')),
    ]);
    expect(failed).toMatchObject({
      status: 'rejected',
      reason: { code: 'unavailable', message: expect.stringContaining('EISDIR') },
    });
    expect(done.status).toBe('fulfilled');
    expect(readdirSync(join(dir, '.tortie/tmp'))).toEqual([]);
  });

  test('links in our folder are refused', async () => {
    const outside = mkdtempSync(join(tmpdir(), 'tt-outside-'));
    try {
      const store = await open();
      await store.create('IPAMHandle', handle('a'));
      writeFileSync(
        join(outside, 'b.json'),
        readFileSync(join(dir, '.tortie/IPAMHandle/a.json'), 'utf8').replaceAll('"a"', '"b"'),
      );
      symlinkSync(join(outside, 'b.json'), join(dir, '.tortie/IPAMHandle/b.json'));
      await expect(store.get('IPAMHandle', { name: 'b' })).rejects.toMatchObject({ code: 'unavailable' });
      expect(await handles(store)).toEqual(['a=0']);
      rmSync(join(dir, '.tortie'), { recursive: true });
      symlinkSync(outside, join(dir, '.tortie'));
      await expect(open()).rejects.toMatchObject({
        code: 'unavailable',
        message: expect.stringContaining('.tortie must be a folder'),
      });
    } finally {
      rmSync(outside, { recursive: true });
    }
  });

  test('after closing, writes are refused', async () => {
    const store = await open();
    await store[Symbol.asyncDispose]();
    await expect(store.create('IPAMHandle', handle('a'))).rejects.toMatchObject({ code: 'unavailable' });
  });
});

test.each(['/nonexistent/folder', '/proc/version'])('opening %s says what to do', async (path) => {
  await expect(open({ dir: path })).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining(`open the files datastore ${path}: `),
  });
});

test('a slow watcher sees every event in order', async () => {
  const store = await open();
  const { resourceVersion } = await store.list('IPAMHandle');
  let last = await store.create('IPAMHandle', handle('a'));
  const seen: string[] = [];
  const watching = (async () => {
    for await (const event of store.watch('IPAMHandle', { resourceVersion })) {
      if (event.type === 'bookmark') continue;
      seen.push(eventText(event));
      await sleep(2);
      if (seen.length > 20) {
        return;
      }
    }
  })();
  for (let count = 1; count <= 20; count++) {
    last = await store.update('IPAMHandle', counted(last, count));
  }
  await watching;
  expect(seen).toEqual(['added a=0', ...Array.from({ length: 20 }, (_, index) => `modified a=${index + 1}`)]);
});

/** A clock that stands still until it is advanced; what waits for it to move can be polled. */
function manualClock(): { readonly clock: Clock; readonly advance: (ms: number) => boolean } {
  const clock = new FakeClock();
  return {
    clock,
    advance: (ms) => {
      clock.advance(ms);
      return true;
    },
  };
}
