"""Runs queries over evidence on DuckDB and on Spark SQL, and counts its events with pyarrow too.

Reads one JSON document from standard input: `place`, the directory of the evidence; `duckdb` and `athena`, what
`hoop-replay schema` printed; `spark`, whether Spark is asked too; `queries`, each with `duckdb` and `athena`. Prints one JSON document: `counts`, and for each
engine the columns and rows of each query.

Spark stands in for Athena: tables get the columns that the DDL for Athena says, views and queries are the text for Athena
in Spark's words.
"""

import datetime
import json
import os
import re
import sys

import duckdb
import pyarrow.dataset
import sqlglot


def cell(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=None).isoformat(" ")
    return str(value)


def on_duckdb(task):
    connection = duckdb.connect()
    connection.execute(task["duckdb"])
    answers = []
    for query in task["queries"]:
        table = connection.sql(query["duckdb"].strip().rstrip(";")).to_arrow_table()
        rows = [[cell(value) for value in row.values()] for row in table.to_pylist()]
        answers.append({"columns": table.column_names, "rows": rows})
    return answers


def spark_session():
    os.environ["TZ"] = "UTC"
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        # Every query is small and runs once: what makes long queries fast makes these slow.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.adaptive.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.warehouse.dir": os.path.join(os.getcwd(), "spark-warehouse"),
    }
    builder = SparkSession.builder.master("local[1]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def spark_tables(spark, task, statements):
    from pyspark.sql.functions import input_file_name

    for statement in statements:
        found = re.search(
            r"CREATE EXTERNAL TABLE IF NOT EXISTS (\w+) \(\n(.*?)\n\)\nPARTITIONED BY \((.*?)\)\n"
            r"STORED AS (\w+)\nLOCATION '(.*?)'",
            statement,
            re.DOTALL,
        )
        if not found:
            continue
        name, columns, partitions, form, location = found.groups()
        schema = f"{columns}, {partitions}"
        folder = location.replace("s3://evidence", task["place"])
        if os.path.isdir(folder):
            reader = spark.read.schema(schema).option("basePath", folder)
            table = reader.format(form.lower().replace("textfile", "text")).load(folder)
        else:
            table = spark.createDataFrame([], schema)
        table.withColumn("$path", input_file_name()).createOrReplaceTempView(name)


def on_spark(task):
    spark = spark_session()
    # A semicolon ends a statement where nothing but a line break follows.
    statements = [s.strip() for s in task["athena"].split(";\n") if s.strip()]
    spark_tables(spark, task, statements)
    for statement in statements:
        if "CREATE OR REPLACE VIEW" in statement:
            [translated] = sqlglot.transpile(statement, read="athena", write="spark")
            spark.sql(translated.replace("REPLACE VIEW", "REPLACE TEMPORARY VIEW", 1))
    answers = []
    for query in task["queries"]:
        [translated] = sqlglot.transpile(query["athena"], read="athena", write="spark")
        frame = spark.sql(translated)
        rows = [[cell(value) for value in row] for row in frame.collect()]
        answers.append({"columns": frame.columns, "rows": rows})
    return answers


def main():
    task = json.load(sys.stdin)
    files = []
    for folder, _, names in os.walk(os.path.join(task["place"], "events", "v1")):
        files += [os.path.join(folder, name) for name in names if name.endswith(".parquet")]
    answer = {
        "duckdb": on_duckdb(task),
        "spark": on_spark(task) if task["spark"] else None,
        "pyarrow": pyarrow.dataset.dataset(files, format="parquet").count_rows(),
    }
    print(json.dumps(answer))


main()
