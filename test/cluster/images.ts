import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { must } from '../lab/exec.ts';
import { cacheDir } from '../go/program.ts';
import { coreDnsProgram, coreDnsVersion, kubernetesProgram, kubernetesVersion, type Say } from './binaries.ts';

/** An image of one static program: it needs nothing else, and no registry. */
interface ImageDefinition {
  /** As pods name it. */
  readonly name: string;
  /** What tells one build from another. */
  readonly version: string;
  /** Path of the program, which gets the file name `program` at the image's root. */
  readonly file: (say: Say) => Promise<string>;
  readonly program: string;
}

/** The container that holds each pod's namespaces, and one that does nothing. */
export const pauseImage = 'tortie.test/pause:1';
/** Kubernetes' own test server and client. */
export const agnhostImage = 'tortie.test/agnhost:1';
export const coreDnsImage = 'tortie.test/coredns:1';

const definitions: readonly ImageDefinition[] = [
  { name: pauseImage, version: '1', program: 'pause', file: buildPause },
  {
    name: agnhostImage,
    version: kubernetesVersion,
    program: 'agnhost',
    file: (say) => kubernetesProgram('agnhost', say),
  },
  { name: coreDnsImage, version: coreDnsVersion, program: 'coredns', file: coreDnsProgram },
];

/** Paths of all images, as docker-archive files in the cache; made where they are missing. */
export function images(say: Say = () => {}): Promise<readonly string[]> {
  return Promise.all(definitions.map((definition) => image(definition, say)));
}

async function image({ name, version, program, file }: ImageDefinition, say: Say): Promise<string> {
  const archive = join(cacheDir, 'images', `${program}-${version}.tar`);
  if (existsSync(archive)) return archive;
  const source = await file(say);
  mkdirSync(join(cacheDir, 'images'), { recursive: true });
  const work = mkdtempSync(`${archive}.`);
  try {
    const root = join(work, 'root');
    mkdirSync(join(root, 'tmp'), { recursive: true });
    copyFileSync(source, join(root, program));
    chmodSync(join(root, program), 0o755);
    await writeArchive(work, name, program);
    renameSync(join(work, 'image.tar'), archive);
    return archive;
  } finally {
    rmSync(work, { recursive: true });
  }
}

/** `image.tar` of one layer, `root/`: the format of `docker save`, as the image specification of Docker 1.2 has it. */
async function writeArchive(work: string, name: string, program: string): Promise<void> {
  const tar = (...args: string[]) => must('tar', '-C', work, '--owner=0', '--group=0', '--mtime=@0', ...args);
  await tar('-cf', join(work, 'layer.tar'), '-C', join(work, 'root'), '.');
  const layer = createHash('sha256')
    .update(readFileSync(join(work, 'layer.tar')))
    .digest('hex');
  const config = JSON.stringify({
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    os: 'linux',
    config: { Entrypoint: [`/${program}`], Env: ['PATH=/'], WorkingDir: '/' },
    rootfs: { type: 'layers', diff_ids: [`sha256:${layer}`] },
    history: [{ created_by: program }],
  });
  const configName = `${createHash('sha256').update(config).digest('hex')}.json`;
  writeFileSync(join(work, configName), config);
  const manifest = [{ Config: configName, RepoTags: [name], Layers: ['layer.tar'] }];
  writeFileSync(join(work, 'manifest.json'), JSON.stringify(manifest));
  await tar('-cf', join(work, 'image.tar'), 'manifest.json', configName, 'layer.tar');
}

async function buildPause(): Promise<string> {
  const program = join(cacheDir, 'pause-1');
  mkdirSync(cacheDir, { recursive: true });
  const source = fileURLToPath(new URL('pause.c', import.meta.url));
  await must('gcc', '-static', '-Os', '-Wall', '-Werror', '-s', '-o', `${program}.${process.pid}`, source);
  renameSync(`${program}.${process.pid}`, program);
  return program;
}
