// Users: POST /users adds one, GET /users lists them.
"use strict";
const { Pool } = require("pg");
const { eventually, serve } = require("./web");

const pool = new Pool({ connectionString: process.env.DATABASE_URL });
pool.on("error", (error) => console.error(`database: ${error.message}`));

async function add({ name }) {
  if (!name) return [400, { error: "name is missing" }];
  const { rows } = await pool.query("INSERT INTO users (name) VALUES ($1) RETURNING id", [name]);
  return [201, { id: rows[0].id, name }];
}

async function list() {
  return (await pool.query("SELECT id, name FROM users ORDER BY id")).rows;
}

eventually("database", () =>
  pool.query("CREATE TABLE IF NOT EXISTS users (id serial PRIMARY KEY, name text)"))
  .then(() => serve({ "POST /users": add, "GET /users": list }));
