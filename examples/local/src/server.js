// Says which version of PostgreSQL it reaches, and how often it was asked.
"use strict";
const http = require("http");
const { Pool } = require("pg");

const GREETING = "hello";
const pool = new Pool({ connectionString: process.env.DATABASE_URL });
pool.on("error", (error) => console.error(`database: ${error.message}`));

async function page() {
  await pool.query("CREATE TABLE IF NOT EXISTS asked (id serial PRIMARY KEY)");
  const { rows } = await pool.query("INSERT INTO asked DEFAULT VALUES RETURNING id");
  const found = await pool.query("SHOW server_version");
  return { greeting: GREETING, asked: rows[0].id, postgres: found.rows[0].server_version };
}

http.createServer(async (request, response) => {
  console.log(`${request.method} ${request.url}`);
  let status = 200;
  const body = await page().catch((error) => {
    status = 503;
    return { error: error.message };
  });
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(`${JSON.stringify(body)}\n`);
}).listen(3000, () => console.log("listening on 3000"));

process.on("SIGTERM", () => process.exit(0));
