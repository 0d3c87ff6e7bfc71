// Judges records with @road-labs/ocmf: a list of {record, key} (key: DER in hex) comes in, one verdict each goes out.
const { createRequire } = require("node:module");
const ours = createRequire(process.argv[2] + "/");
const { Verifier } = ours("@road-labs/ocmf");
const { Crypto } = ours("@road-labs/ocmf-crypto-noble");

async function main() {
  let text = "";
  for await (const piece of process.stdin) text += piece;
  const crypto = new Crypto();
  const verdicts = [];
  for (const { record, key } of JSON.parse(text)) {
    try {
      const publicKey = await crypto.decodeEcPublicKey(Uint8Array.from(Buffer.from(key, "hex")), "spki-der");
      verdicts.push({ verified: (await new Verifier(crypto).parseAndVerify(record, publicKey)).verified });
    } catch (error) {
      verdicts.push({ verified: false, why: String(error) });
    }
  }
  process.stdout.write(JSON.stringify(verdicts));
}

main();
