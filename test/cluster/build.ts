/** Builds the programs of a real Kubernetes where they are missing: before the tests, whose time limits are for testing. `make test` calls it. */
import { coreDnsProgram, etcdProgram, kubernetesPrograms } from './binaries.ts';

const say = (line: string) => console.log(`  GO      ${line}`);
await etcdProgram(say);
await kubernetesPrograms(say);
await coreDnsProgram(say);
